"""Parts of a suite that settings are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from twin_merging.suite.suite import Suite

Settings = dict[str, Any]
Wildcards = Mapping[str, str]


def of_tasks(suite: Suite, names: Iterable[str], part: Callable[[Any], Mapping[str, Any]]) -> Settings:
    """The suite's family, and a part of some tasks."""
    return {"family": suite.family, "tasks": {name: part(suite.tasks[name]) for name in names}}


def of_task(suite: Suite, wildcards: Wildcards, part: Callable[[Any], Mapping[str, Any]]) -> Settings:
    """The suite's family, and a part of the job's own task."""
    return {"family": suite.family, "task": part(suite.tasks[wildcards["task"]])}
