"""Fixtures that several tests share."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
import torch

from tests.tiny import LABELS, make_suite
from twin_merging.checkpoints.kinds import Classifier
from twin_merging.fetching.models import fetch_base, fetch_expert
from twin_merging.task_vectors.vectors import extract_task_vector

# Whoever started the tests may have made them deaf to Ctrl-C, as a shell does with what it runs in the background; what
# they start would be deaf too.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The files that take longest, the longest first: begun first, so that the worker processes end at nearly the same time.
LONGEST = [
    "test_qwen_suite.py",
    "test_hub_suite.py",
    "test_every_architecture.py",
    "test_two_calls.py",
    "test_same_bytes.py",
    "test_declared_files.py",
    "test_faults.py",
    "test_audit.py",
    "test_staleness.py",
    "test_hub_faults.py",
    "test_what_is_shown.py",
    "test_foreign_models.py",
]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are cores: a test that runs Snakemake waits for it, and leaves a core idle."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, then the others that run Snakemake, then the unit tests."""

    def place(item: pytest.Item) -> tuple[int, bool]:
        name = item.path.name
        return LONGEST.index(name) if name in LONGEST else len(LONGEST), item.get_closest_marker("workflow") is None

    items.sort(key=place)


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
