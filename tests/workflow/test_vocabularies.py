"""A suite whose experts' tokenizers have other added tokens, from its sources to its table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import transformers

from tests.added_tokens import CHAT, SHARED, TOKENS, TOOL, write_adapter, write_base, write_expert
from tests.tiny import WORDS
from tests.workflow.running import make_working_folder, snakemake
from twin_merging import merge
from twin_merging.io.files import read_json
from twin_merging.io.weights import open_directory

pytestmark = pytest.mark.workflow

SUITE = """
title: Two tasks with tokens of their own
family: decoder
protocol: strict
vocabulary: union
base: {{path: {root}/base}}
limits: {{test: 6}}
inference: {{max_length: 24, batch_size: 6}}
tasks:
  chat:
    data: {{path: {root}/data/chat}}
    prompt: "{chat} {{word}}"
    generation: {{max_new_tokens: 2}}
    metric: exact_match
    expert: {{path: {root}/chat}}
  tool:
    data: {{path: {root}/data/tool}}
    prompt: "{tool} {{word}}"
    generation: {{max_new_tokens: 2}}
    metric: exact_match
    expert: {{path: {root}/tool}}
methods:
  task-arithmetic: {{method: task_arithmetic, scaling: 0.4}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder in which the suite has run. One expert is a whole model, one an adapter."""
    root = tmp_path_factory.mktemp("sources")
    base = write_base(root / "base", tied=False)
    models = {
        "chat": write_expert(root / "chat", base, TOKENS["chat"], 1),
        "tool": write_adapter(root / "tool", base, TOKENS["tool"], ["embed_tokens", "lm_head"]),
    }
    for task, model in models.items():
        _write_rows(root / "data" / task, model.eval(), root / task, TOKENS[task][0])
    (root / "suites").mkdir()
    (root / "suites/tokens.yaml").write_text(SUITE.format(root=root, chat=CHAT, tool=TOOL))
    folder = make_working_folder(tmp_path_factory.mktemp("run"))
    run = snakemake(folder, "--config", f"suites={root / 'suites'}", "--", "results/tables/tokens.csv")
    assert run.returncode == 0, run.stderr
    (folder / "sources").symlink_to(root)
    return folder


def _write_rows(folder: Path, model: Any, place: Path, token: str) -> None:
    """Rows whose right answers are what an expert writes, by its own tokenizer."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(place)
    folder.mkdir(parents=True)
    for begin, split in enumerate(("train", "validation", "test")):
        rows = []
        for word in WORDS[begin::3][:12]:
            ids = tokenizer(f"{token} {word}", return_tensors="pt")["input_ids"]
            found = model.generate(input_ids=ids, max_new_tokens=2, do_sample=False, pad_token_id=1)
            rows.append({"word": word, "answer": tokenizer.decode(found[0, 2:], skip_special_tokens=True)})
        (folder / f"{split}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))


def test_experts_answer_as_they_do_by_their_own_tokenizers(folder: Path) -> None:
    table = pd.read_csv(folder / "results/tables/tokens-absolute.csv").set_index("model")
    assert table.loc[["experts"], ["chat", "tool"]].to_numpy().tolist() == [[100, 100]]


def test_the_merged_model_is_that_of_the_librarys_own_call(folder: Path, tmp_path: Path) -> None:
    root, results = folder / "sources", folder / "results/tokens"
    output = merge("task_arithmetic", scaling=0.4, base=root / "base", experts={n: root / n for n in TOKENS},
                   output=tmp_path / "out", vocabulary="union", threads=1)  # fmt: skip
    own, wanted = open_directory(results / "models/task-arithmetic"), open_directory(output)
    assert list(own) == list(wanted)
    assert all(own[name].allclose(wanted[name], atol=1e-6) for name in wanted)
    assert read_json(results / "base/source.json")["vocabulary"] == read_json(output / "merge.json")["vocabulary"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(results / "models/task-arithmetic")
    assert tokenizer.convert_tokens_to_ids([CHAT, SHARED, TOOL]) == [45, 46, 47]
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(results / "models/task-arithmetic")
    ids = tokenizer(f"{CHAT} w1 {TOOL}", return_tensors="pt")["input_ids"]
    assert model.generate(ids, max_new_tokens=3, do_sample=False).shape[1] > 3
