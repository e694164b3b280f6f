"""TSV-C: a suite's entry, the jobs that make it, and the model that they make, against its dense oracle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.oracles import tsv_c
from tests.suites import edited, load
from tests.tiny import LABELS, config_of, merged, tokenizer
from twin_merging import TwinModel
from twin_merging.checkpoints.groups import PROTOCOLS
from twin_merging.compression.compress import compress
from twin_merging.errors import UserError
from twin_merging.io.tensors import Checkpoint
from twin_merging.io.weights import open_directory
from twin_merging.model.assemble import assemble
from twin_merging.plan import settings
from twin_merging.plan.settings_scores import true_task
from twin_merging.plan.targets import jobs
from twin_merging.suite.suite import Suite

WORDS = ["w1 w2 w3", "w4 w5 w6 w7 w8", "w9 w1", "w2 w2 w2"]
TASKS = ["one", "two", "two", "one"]
OWN: dict[str, Any] = {"method": "tsv_c", "fraction": 0.25}


def with_own(folder: Path, entry: dict[str, Any] = OWN, **edits: Any) -> Suite:
    return load(folder, edited({"methods/own": entry, **edits}))


def test_it_is_twin_on_the_base_with_the_weights_of_the_true_task(tmp_path: Path) -> None:
    suite = with_own(tmp_path)
    twin = {"method": "twin", "shared": "pretrained-reference", "fraction": 0.25, "weights": "oracle"}
    other = with_own(tmp_path, twin, **{"methods/pretrained-reference": {"method": "task_arithmetic", "scaling": 0}})
    assert suite.methods["own"].options == other.methods["own"].options
    assert suite.methods["pretrained-reference"].plain() == other.methods["pretrained-reference"].plain()
    assert sorted(jobs(suite), key=str) == sorted(jobs(other), key=str)
    assert suite.told == ["own"]
    assert true_task(suite, "own") == "head+bias+weights"
    assert "own" not in suite.with_router
    wildcards = {"method": "own"}
    own, others = (settings.of_job(each, "assemble", wildcards) for each in (suite, other))
    assert {**own, "entry": {**own["entry"], "method": "twin"}} == others


def test_several_entries_share_the_base_and_what_is_stored(tmp_path: Path) -> None:
    one = list(jobs(with_own(tmp_path)))
    two = list(jobs(with_own(tmp_path, **{"methods/other": {**OWN, "fraction": 0.5}})))
    assert [rule for rule, _ in two].count("merge") == [rule for rule, _ in one].count("merge")
    assert [rule for rule, _ in two].count("compress") == [rule for rule, _ in one].count("compress")
    swept = with_own(tmp_path, {"method": "tsv_c", "sweep": {"rank": [1, 2], "tasks": [1, 2]}})
    assert swept.shared("own-rank-2-tasks-1") == "own-pretrained-tasks-1"


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"method": "tsv_c"}, "methods.own: give exactly one of rank, fraction, energy (here: none)"),
        ({**OWN, "shared": "sum"}, "methods.own.shared: 'tsv_c' adds its vectors to the base itself, which 'sum'"),
        ({**OWN, "router": {}}, "methods.own: unknown key 'router'"),
        ({**OWN, "ablations": True}, "methods.own.ablations: 'tsv_c' has no shared expert and no router to leave out"),
        ({**OWN, "leave_out": ["two"]}, "methods.own.leave_out: with weights: oracle"),
    ],
)
def test_a_wrong_entry_is_told_in_one_sentence(entry: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        with_own(tmp_path, entry)
    assert words in str(caught.value)


@pytest.mark.parametrize("protocol", ["reference", "strict"])
def test_each_row_is_answered_by_the_oracles_model_of_its_task(fetched: Path, tmp_path: Path, protocol: str) -> None:
    name = f"pretrained-{protocol}"
    suite = with_own(tmp_path, {**OWN, "protocol": protocol})
    shared = merged(
        fetched, tmp_path / "shared", "task_arithmetic", {"scaling": suite.methods[name].options["scaling"]}, protocol
    )
    exclusives = {task: tmp_path / f"{task}.safetensors" for task in LABELS}
    for task, file in exclusives.items():
        vectors = {task: fetched / f"task_vectors/{task}.safetensors"}
        compress(task=task, base=fetched / "base", task_vectors=vectors, shared=shared, sizes=suite.compression(name),
                 protocol=PROTOCOLS[protocol], output=file)  # fmt: skip
    assemble(suite.methods["own"].plain(), suite.head("own"), shared, exclusives, None, suite.weighing("own"),
             tmp_path / "model")  # fmt: skip
    model = TwinModel.from_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match="oracle weights does not know its inputs' tasks"):
        model(**tokenizer()(WORDS, return_tensors="pt", padding=True))
    with torch.no_grad():
        answer = model(**tokenizer()(WORDS, return_tensors="pt", padding=True), tasks=TASKS)
    for row, task in enumerate(TASKS):
        wanted = dense(fetched, task, protocol)(**tokenizer()(WORDS[row], return_tensors="pt")).logits[0]
        torch.testing.assert_close(answer.logits[row, : LABELS[task]], wanted, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def dense(fetched: Path, task: str, protocol: str) -> Any:
    """The task's expert with the oracle's parameters in the place of what is merged."""
    from transformers import AutoModelForSequenceClassification

    base, expert = open_directory(fetched / "base"), open_directory(fetched / "experts" / task)
    names = [name for name in base if PROTOCOLS[protocol].merges(name)]
    vector = Checkpoint(fetched / "task_vectors" / f"{task}.safetensors")
    own = tsv_c({n: base[n] for n in names}, {task: {n: vector[n] for n in names}}, task, OWN["fraction"])
    model: Any = AutoModelForSequenceClassification.from_config(config_of("roberta", LABELS[task])).eval()
    state = {name: expert[name] for name in expert} | {f"roberta.{name}": value.float() for name, value in own.items()}
    model.load_state_dict(state)
    return model
