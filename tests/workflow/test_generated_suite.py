"""A suite that makes everything itself: generated base and data, one whole expert and one LoRA adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from benchmarks.resources import finished as finished_jobs
from twin_merging.checkpoints.experts import Expert
from twin_merging.io.files import read_json
from twin_merging.io.weights import open_directory
from twin_merging.suite.suite import load_suite

pytestmark = pytest.mark.workflow


@pytest.fixture
def results(finished: Path) -> Path:
    return finished / "results"


def test_the_table_holds_every_model(results: Path) -> None:
    table = pd.read_csv(results / "tables/made.csv")
    assert table["model"].tolist() == ["pretrained", "merged", "twin", "experts"]
    assert table["true_task"].tolist() == ["head", "head", "nothing", "everything"]


def test_an_adapter_is_merged_beside_a_whole_expert(results: Path) -> None:
    base = open_directory(results / "made/base")
    whole = Expert(results / "made/experts/sentiment", base)
    adapter = Expert(results / "made/experts/similarity", base)
    assert (whole.is_adapter, adapter.is_adapter) == (False, True)
    body = open_directory(results / "made/models/merged")
    for name in body:
        changes = [expert.parameter(name).double() - base[name].double() for expert in (whole, adapter)]
        torch.testing.assert_close(body[name].double(), base[name].double() + 0.5 * sum(changes), rtol=1e-5, atol=1e-6)


def test_limits_hold_and_a_methods_own_router_lies_beside_the_suites(results: Path) -> None:
    assert read_json(results / "made/experts/sentiment/source.json")["train_rows"] == 48
    (folder,) = (results / "made/router/merged").glob("mlp-last-*")
    own = read_json(folder / "metrics.json")
    assert own["train_rows"] == 64
    assert not (results / "made/router/merged/router.safetensors").exists(), "no method asks for it"
    assert not list((results / "made/checkpoints").glob("*"))


def test_top_k_weights_reach_the_predictions(results: Path) -> None:
    table: Any = pd.read_parquet(results / "made/predictions/twin.parquet")
    assert sorted(set(table["weights"].map(max))) == [1.0]
    assert table.groupby("task").size().to_dict() == {"sentiment": 20, "similarity": 20}


@pytest.mark.parametrize("name", ["made", "mine"])
def test_jobs_ask_for_the_memory_and_the_disk_that_they_take(
    finished: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What takes little may ask for what the libraries take; benchmarks/resources.py says how that counts. Times are
    not compared: they differ with the machine and with what else it does."""
    monkeypatch.chdir(finished)
    jobs = list(finished_jobs(Path("results", name), load_suite(Path("config/suites", f"{name}.yaml"))))
    assert {"predict", "merge", "task_vectors", "compress", "score", "tabulate"} <= {job.rule for job in jobs}
    wrong = [
        (job.rule, job.asked, job.memory, job.disk)
        for job in jobs
        if not (job.has_enough_memory and job.has_little_too_much_memory and job.has_fitting_disk)
    ]
    assert wrong == []
