"""A suite of two tasks for tests of how suites are read, whole or with edits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import plans
from twin_merging.errors import UserError
from twin_merging.suite.suite import Suite, load_suite

SUITE = """
title: Two tasks
base: {path: models/base}
tasks:
  one:
    data: {path: data/one}
    labels: 2
    metric: accuracy
    expert: {path: models/one}
  two:
    data: {path: data/two}
    text: [premise, hypothesis]
    labels: 3
    metric: accuracy
    expert: {finetune: {epochs: 2, learning_rate: 1.0e-4}}
router: {shared: sum}
methods:
  sum: {method: task_arithmetic, scaling: 0.3}
  sum-strict: {method: task_arithmetic, protocol: strict}
  mean: {method: weight_average}
  twin: {method: twin, fraction: 0.1}
"""
GLUE = {"hub": {"repo": "nyu-mll/glue", "config": "mnli"}, "splits": {"test": "validation_matched"}}


def edited(edits: Mapping[str, Any], text: str = SUITE) -> dict[str, Any]:
    """SUITE with values in place of those at paths such as `tasks/one/labels`."""
    return plans.edited(text, edits)


def load(folder: Path, content: str | dict[str, Any], glue: str | None = None) -> Suite:
    file = folder / "mine.yaml"
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
    return load_suite(file, glue)


def refused(folder: Path, content: str | dict[str, Any], *words: str) -> None:
    with pytest.raises(UserError) as caught:
        load(folder, content)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{folder / 'mine.yaml'}:")
    for word in words:
        assert word in message, message
