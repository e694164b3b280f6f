"""The shipped suite `qwen`, unchanged, against a Hub on this machine with tiny models and data of the same forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.fake_hub import FakeHub, with_hub
from tests.qwen_hub import BASE, EXPERTS, LETTERS, TESTS, WORDS, add_qwen
from tests.workflow.running import make_working_folder, snakemake
from twin_merging.io.files import read_json

pytestmark = pytest.mark.workflow

TABLE, PUBLISHED = "results/tables/qwen.csv", "results/tables/qwen-published.csv"
METHODS = ("task-arithmetic", "ties", "dare-ties", "twin")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FakeHub]:
    """A working folder in which the suite has run, and the Hub that it was fetched from."""
    root = tmp_path_factory.mktemp("qwen")
    hub = FakeHub()
    add_qwen(hub, root)
    folder = make_working_folder(root / "run")
    with hub.running():
        run = snakemake(folder, TABLE, PUBLISHED, environment=with_hub(hub, root / "home"))
    assert run.returncode == 0, run.stderr
    return folder, hub


def test_the_table_has_all_spaces_and_every_task(ran: tuple[Path, FakeHub]) -> None:
    table: Any = pd.read_csv(ran[0] / TABLE).set_index("model")
    spaces = [f"{method}{space}" for method in METHODS for space in ("", "-factor")]
    assert sorted(table.index) == sorted(["pretrained", *spaces, "ties-core", "tsv-m-core", "experts"])
    assert not table[[*EXPERTS, "avg"]].isna().any(axis=None)
    published: Any = pd.read_csv(ran[0] / PUBLISHED)
    assert "twin-factor" in set(published["model"])


def test_each_expert_is_right_where_it_was_made_to_be(ran: tuple[Path, FakeHub]) -> None:
    scores: Any = pd.read_csv(ran[0] / "results/qwen/scores.csv").set_index(["model", "task"])["value"]
    for task, letter in LETTERS.items():
        own = pd.read_parquet(ran[0] / f"results/qwen/predictions/expert-{task}.parquet")
        written = own.loc[own["task"] == task, "output"]
        assert len(written) == TESTS[task]
        assert set(written) == {letter}
        assert scores[f"expert-{task}", task] == pytest.approx(0.75, abs=0.03)
    own = pd.read_parquet(ran[0] / "results/qwen/predictions/expert-cnn-dailymail.parquet")
    assert set(own.loc[own["task"] == "cnn-dailymail", "output"]) == {f"{WORDS[2]}{WORDS[3]}".strip()}
    assert scores["expert-cnn-dailymail", "cnn-dailymail"] > scores["pretrained", "cnn-dailymail"]


def test_nothing_is_fetched_that_is_not_needed_and_no_code_is_run(ran: tuple[Path, FakeHub]) -> None:
    folder, hub = ran
    models = {path for path in hub.downloaded() if path.startswith((BASE, "lu-vae"))}
    assert {path.removeprefix(f"{BASE}/") for path in models if path.startswith(BASE)} == {
        "config.json", "generation_config.json", "qwen.tiktoken", "tokenizer_config.json",
        *(f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)), "model.safetensors.index.json",
    }  # fmt: skip
    assert {path for path in models if path.startswith("lu-vae")} == {
        f"{repo}/{name}" for repo in EXPERTS.values() for name in ("adapter_config.json", "adapter_model.bin")
    }
    assert not (folder.parent / "unpickled").exists()
    results = folder / "results/qwen"
    assert not list(results.rglob("*.bin"))
    assert not list(results.rglob("modeling_qwen.py"))
    assert read_json(results / "base/config.json")["model_type"] == "qwen2"
    assert "transformer.h.0.attn.c_attn" in read_json(results / "experts/mmlu/source.json")["fused"]
