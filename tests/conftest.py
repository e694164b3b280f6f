"""Fixtures that several tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.tiny import LABELS, make_suite
from twin_merging.checkpoints.kinds import Classifier
from twin_merging.fetching.models import fetch_base, fetch_expert
from twin_merging.task_vectors.vectors import extract_task_vector


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny RoBERTa base, two experts, their data, and the suite `mine`."""
    root = tmp_path_factory.mktemp("tiny")
    make_suite(root)
    return root


@pytest.fixture(scope="session")
def fetched(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base/, experts/ and task_vectors/ of the tiny suite."""
    root = tmp_path_factory.mktemp("fetched")
    fetch_base({"path": str(tiny / "base")}, root / "base")
    for task, labels in LABELS.items():
        fetch_expert({"path": str(tiny / "experts" / task)}, Classifier(labels), root / "base", root / "experts" / task)
        extract_task_vector(root / "base", root / "experts" / task, root / "task_vectors" / f"{task}.safetensors")
    return root
