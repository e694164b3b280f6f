"""Models of a suite that has run, against arithmetic on the original checkpoints."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from twin_merging import TwinModel, merge
from twin_merging.io.files import read_json, sha256
from twin_merging.io.tensors import WEIGHTS, Checkpoint
from twin_merging.io.weights import open_directory

pytestmark = pytest.mark.workflow

TASKS = ("one", "two")
ROWS = {"one": ("w1 w2 w3 w4",), "two": ("w5 w6", "w7 w8 w9")}


@pytest.fixture(scope="module")
def originals(finished: Path) -> dict[str, Any]:
    """The experts and the base's body as transformers loads them."""
    inputs = finished / "inputs"
    experts = {t: AutoModelForSequenceClassification.from_pretrained(inputs / "experts" / t).eval() for t in TASKS}
    return {"base": AutoModel.from_pretrained(inputs / "base", add_pooling_layer=False), **experts}


def bodies(originals: dict[str, Any]) -> tuple[dict[str, torch.Tensor], list[dict[str, torch.Tensor]]]:
    base = {name: parameter.detach().double() for name, parameter in originals["base"].named_parameters()}
    experts = [
        {name: parameter.detach().double() for name, parameter in originals[task].roberta.named_parameters()}
        for task in TASKS
    ]
    return base, experts


@pytest.mark.parametrize("protocol", ["reference", "strict"])
def test_merged_models_equal_dense_arithmetic_on_the_originals(
    finished: Path, originals: dict[str, Any], protocol: str
) -> None:
    base, experts = bodies(originals)
    name = "task-arithmetic" if protocol == "reference" else "task-arithmetic-strict"
    body = open_directory(finished / "results/mine/models" / name)
    assert set(body) == set(base)
    for parameter, start in base.items():
        merged = start + 0.29 * sum(expert[parameter] - start for expert in experts)
        wanted = start if protocol == "reference" and "bias" in parameter else merged
        torch.testing.assert_close(body[parameter].double(), wanted, rtol=1e-6, atol=1e-7)


def test_weight_average_is_the_mean_of_the_originals(finished: Path, originals: dict[str, Any]) -> None:
    _, experts = bodies(originals)
    body = open_directory(finished / "results/mine/models/weight-average")
    for name in body:
        if "bias" not in name:
            wanted = (experts[0][name] + experts[1][name]) / 2
            torch.testing.assert_close(body[name].double(), wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("name", "method"), [("dare-ties", "dare"), ("task-arithmetic", "task_arithmetic")])
def test_the_workflow_merges_as_the_library_does_alone(finished: Path, tmp_path: Path, name: str, method: str) -> None:
    """Through task vectors on disk, or from the original directories: the same numbers."""
    options: dict[str, Any] = {"drop_rate": 0.5, "then": {"method": "ties", "density": 0.3}}
    if method == "task_arithmetic":
        options = {"scaling": 0.29}
    experts = {task: finished / "inputs/experts" / task for task in TASKS}
    alone = merge(method, base=finished / "results/mine/base", experts=experts, output=tmp_path / "out",
                  protocol="reference", **options)  # fmt: skip
    assert sha256(alone / WEIGHTS) == sha256(finished / f"results/mine/models/{name}/model.safetensors")


def test_a_masked_model_is_predicted_with_each_rows_own_task(finished: Path) -> None:
    model = TwinModel.from_pretrained(finished / "results/mine/models/emr")
    tokenizer = AutoTokenizer.from_pretrained(finished / "results/mine/base")
    predictions: Any = pd.read_parquet(finished / "results/mine/predictions/emr.parquet").set_index(["task", "row"])
    rows: Any = pd.read_parquet(finished / "results/mine/data/two/test.parquet").head(5)
    batch = tokenizer(rows["premise"].tolist(), rows["hypothesis"].tolist(), padding=True, return_tensors="pt")
    with torch.no_grad():
        answers = model(**batch, tasks=["two"] * 5).logits.argmax(-1)
    assert answers.tolist() == predictions.loc["two"]["output"].head(5).tolist()


def test_the_shared_body_is_read_by_automodel(finished: Path) -> None:
    directory = finished / "results/mine/models/twin"
    model: Any = AutoModel.from_pretrained(directory, add_pooling_layer=False)
    stored = open_directory(directory)
    assert all(torch.equal(stored[name], parameter) for name, parameter in model.named_parameters())


def explicit(originals: dict[str, Any], task: str, weights: torch.Tensor, batch: Any) -> torch.Tensor:
    """One row's logits from a classifier merged for it: shared + sum_t w_t SVD_r(expert_t - shared), reference."""
    base, experts = bodies(originals)
    model = copy.deepcopy(originals[task]).double()
    with torch.no_grad():
        for name, parameter in model.roberta.named_parameters():
            if "bias" in name:
                continue
            start = base[name]
            shared = start + 0.29 * sum(expert[name] - start for expert in experts)
            parameter.copy_(shared)
            for weight, expert in zip(weights.double(), experts, strict=True):
                difference = expert[name] - shared
                if difference.dim() == 2:
                    rank = max(1, int(0.25 * min(difference.shape)))
                    U, S, V = torch.linalg.svd(difference, full_matrices=False)
                    difference = U[:, :rank] @ torch.diag(S[:rank]) @ V[:rank]
                parameter.add_(weight * difference)
        return model(**batch).logits[0].float()


def test_a_mixed_batch_of_the_loaded_model_is_answered_as_by_explicit_merging(
    finished: Path, originals: dict[str, Any]
) -> None:
    directory = finished / "results/mine/models/twin"
    model, tokenizer = TwinModel.from_pretrained(directory), AutoTokenizer.from_pretrained(directory)
    encoded = [tokenizer(*ROWS[task]) for task in TASKS]
    batch = tokenizer.pad([dict(row) for row in encoded], return_tensors="pt")
    with torch.no_grad():
        answer = model(**batch, tasks=list(TASKS))
    assert answer.weights.sum(-1).tolist() == pytest.approx([1, 1])
    for row, task in enumerate(TASKS):
        alone = tokenizer(*ROWS[task], return_tensors="pt")
        wanted = explicit(originals, task, answer.weights[row], alone)
        torch.testing.assert_close(answer.logits[row, : len(wanted)], wanted, rtol=1e-5, atol=1e-5)


def test_a_one_pass_model_stores_nothing_before_its_layer(finished: Path) -> None:
    """Its router is a projection on task vectors, and reads what enters layer 1."""
    directory = finished / "results/mine/models/twin-onepass"
    model = TwinModel.from_pretrained(directory)
    assert model.onepass
    assert read_json(directory / "router/config.json")["kind"] == "projection"
    whole = finished / "results/mine/models/twin"
    for file in (
        "exclusive/one/adapter_model.safetensors",
        "exclusive/one/vectors.safetensors",
        "private/one.safetensors",
    ):
        kept, all_names = set(Checkpoint(directory / file)), set(Checkpoint(whole / file))
        early = {name for name in all_names if "embeddings." in name or "layer.0." in name}
        assert early
        assert kept == all_names - early
    tokenizer = AutoTokenizer.from_pretrained(directory)
    rows: Any = pd.read_parquet(finished / "results/mine/data/one/test.parquet").head(5)
    with torch.no_grad():
        answer = model(**tokenizer(rows["sentence"].tolist(), padding=True, return_tensors="pt"), tasks=["one"] * 5)
    found: Any = pd.read_parquet(finished / "results/mine/predictions/twin-onepass.parquet").head(5)
    assert answer.logits[:, :2].argmax(-1).tolist() == found["output"].tolist()
    torch.testing.assert_close(answer.weights, torch.tensor(np.stack(found["weights"])).float(), rtol=1e-4, atol=1e-5)
