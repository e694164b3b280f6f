"""The router's features, training and choice of epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from tests.tiny import sentences
from twin_merging.errors import UserError
from twin_merging.io.files import read_json, sha256
from twin_merging.io.tensors import Checkpoint, save_tensors
from twin_merging.routing.features import extract_features, mean_of_tokens
from twin_merging.routing.training import make_router
from twin_merging.tasks.classification import Texts

SETTINGS = {
    "kind": "mlp",
    "hidden_size": None,
    "features": "last",
    "epochs": 20,
    "batch_size": 16,
    "learning_rate": 5e-3,
    "weight_decay": 0.01,
    "dropout": 0.5,
}
TASKS = ["a", "b", "c"]


def clusters(path: Path, spread: float = 0.5, rows: int = 33) -> Path:
    """Features of three tasks around three means."""
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(3, 8, generator=generator)
    tensors = {}
    for mean, task in zip(means, TASKS, strict=True):
        for split in ("train", "validation"):
            tensors[f"{task}/{split}"] = mean + spread * torch.randn(rows, 8, generator=generator)
    save_tensors(path, tensors)
    return path


def test_the_mean_leaves_padding_out() -> None:
    hidden = torch.tensor([[[1.0], [3.0], [100.0]], [[2.0], [4.0], [6.0]]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    assert mean_of_tokens(hidden, mask).tolist() == [[2.0], [4.0]]


def test_features_are_those_of_each_row_alone(fetched: Path, tmp_path: Path) -> None:
    for split, rows in (("train", 7), ("validation", 5)):
        (tmp_path / "data").mkdir(exist_ok=True)
        sentences(1, rows, 2, ("sentence",)).to_parquet(tmp_path / "data" / f"{split}.parquet")
    extract_features(
        shared=fetched / "base",
        data={"a": tmp_path / "data"},
        tasks={"a": Texts(text=("sentence",))},
        limits={"router": 6, "validation": None},
        inference={"max_length": 16, "batch_size": 4},
        features="last",
        output=tmp_path / "features.safetensors",
    )
    found = Checkpoint(tmp_path / "features.safetensors")
    assert {name: found.shape(name) for name in found} == {"a/train": (6, 16), "a/validation": (5, 16)}
    body: Any = AutoModel.from_pretrained(fetched / "base", add_pooling_layer=False).eval()
    tokenizer = AutoTokenizer.from_pretrained(fetched / "base")
    for row, text in enumerate(sentences(1, 7, 2, ("sentence",))["sentence"][:6]):
        with torch.no_grad():
            hidden = body(**tokenizer(text, return_tensors="pt", max_length=16, truncation=True)).last_hidden_state
        torch.testing.assert_close(found["a/train"][row], hidden[0].mean(0), rtol=1e-5, atol=1e-5)


def test_a_layer_that_the_body_has_not_is_one_sentence(fetched: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"router\.features: layer 7 is asked for, but the body has 2 layers; name"):
        extract_features(
            shared=fetched / "base",
            data={},
            tasks={},
            limits={},
            inference={},
            features={"layer": 7},
            output=tmp_path / "features",
        )


def test_the_router_learns_separable_tasks_and_reports_held_out_rows(tmp_path: Path) -> None:
    features = clusters(tmp_path / "features")
    make_router(
        features=features,
        tasks=TASKS,
        settings=SETTINGS,
        seed=0,
        output=tmp_path / "router",
        metrics=tmp_path / "metrics.json",
    )
    metrics = read_json(tmp_path / "metrics.json")
    assert metrics["held_out_accuracy"] > 0.9
    assert metrics["held_out_rows"] == metrics["train_rows"] == 99
    assert sum(sum(row.values()) for row in metrics["confusion"].values()) == 99
    for task in TASKS:
        assert metrics["accuracy"][task] == pytest.approx(metrics["confusion"][task][task] / 33)


def test_training_is_the_same_twice_and_another_with_another_seed(tmp_path: Path) -> None:
    features = clusters(tmp_path / "features")
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        make_router(
            features=features,
            tasks=TASKS,
            settings=SETTINGS,
            seed=seed,
            output=tmp_path / name,
            metrics=tmp_path / f"{name}.json",
        )
    assert sha256(tmp_path / "one") == sha256(tmp_path / "two") != sha256(tmp_path / "three")


def test_the_kept_epoch_is_the_best_on_held_out_rows(tmp_path: Path) -> None:
    features = clusters(tmp_path / "features", spread=2.0)
    accuracies, metrics = [], {}
    for epochs in (1, 30):
        settings = {**SETTINGS, "epochs": epochs, "learning_rate": 5e-2}
        make_router(
            features=features,
            tasks=TASKS,
            settings=settings,
            seed=0,
            output=tmp_path / "router",
            metrics=tmp_path / "metrics.json",
        )
        metrics = read_json(tmp_path / "metrics.json")
        assert 1 <= metrics["epoch"] <= epochs
        accuracies.append(metrics["held_out_accuracy"])
    assert accuracies[1] >= accuracies[0]
    assert metrics["epoch"] < 30, "the last epoch overfits these features"


@pytest.mark.parametrize("rows", [1, 11])
def test_a_last_batch_of_one_row_does_no_harm(tmp_path: Path, rows: int) -> None:
    features = clusters(tmp_path / "features", rows=rows)
    settings = {**SETTINGS, "batch_size": 4 if rows == 11 else 2, "epochs": 2}
    make_router(
        features=features,
        tasks=TASKS,
        settings=settings,
        seed=0,
        output=tmp_path / "router",
        metrics=tmp_path / "metrics.json",
    )
    assert all(tensor.isfinite().all() for tensor in Checkpoint(tmp_path / "router").values())
