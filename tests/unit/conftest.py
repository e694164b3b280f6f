"""Fixtures that several unit tests share."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.fake_hub import FakeHub, commit_of, used_here
from tests.joint import TASKS as JOINT
from tests.originals import Tiny
from tests.routing import LAYER, ROWS, SIZE, TASKS, attention, random, write_vector
from tests.served import REPO, WEIGHTS
from tests.tiny import sentences
from twin_merging.io.tensors import save_tensors


@pytest.fixture(scope="session", params=("roberta", "bert"))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A base and an expert of each kind, saved, and the base fetched."""
    return Tiny(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="session")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return Tiny(tmp_path_factory.mktemp("roberta"), "roberta")


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Nothing sleeps; how long it would have."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    return slept


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A Hub with one model, that the client in this process uses with a cache of its own."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "config.json").write_text('{"a": 1}')
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    (folder / "pytorch_model.bin").write_bytes(b"pickled")
    (folder / "classifier_head.pt").write_bytes(b"pickled")
    hub = FakeHub()
    hub.add(REPO, folder, main=commit_of("one"), old=commit_of("zero"))
    with used_here(hub, tmp_path / "cache", monkeypatch):
        yield hub


@pytest.fixture(scope="session")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features of three tasks around three means, with unequal variances."""
    path = tmp_path_factory.mktemp("features") / "features.safetensors"
    spread = torch.linspace(0.2, 2, SIZE)
    tensors = {}
    for number, (mean, task) in enumerate(zip(random(3, SIZE), TASKS, strict=True)):
        for split, seed in (("train", 10), ("validation", 20)):
            tensors[f"{task}/{split}"] = mean + spread * random(ROWS, SIZE, seed=seed + number)
    save_tensors(path, tensors)
    return path


@pytest.fixture(scope="session")
def task_vectors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Dense task vectors of two layers' attention and another matrix."""
    folder = tmp_path_factory.mktemp("vectors")
    shapes = attention(0) | attention(LAYER) | {f"encoder.layer.{LAYER}.output.dense.weight": (SIZE, SIZE)}
    for number, task in enumerate(TASKS):
        matrices = {name: random(*shape, seed=50 * number + at) for at, (name, shape) in enumerate(shapes.items())}
        write_vector(folder / f"{task}.safetensors", matrices)
    return {task: folder / f"{task}.safetensors" for task in TASKS}


@pytest.fixture(scope="session")
def rows_of_tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Training rows of the two tiny tasks."""
    root = tmp_path_factory.mktemp("rows")
    for seed, (task, own) in enumerate(JOINT.items()):
        sentences(seed, 20, own.labels, own.text).to_parquet(root / f"{task}.parquet")
    return {task: root / f"{task}.parquet" for task in JOINT}
