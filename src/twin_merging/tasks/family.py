"""What a family of tasks offers to the stages, in one object."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twin_merging.io.fields import ABSENT
from twin_merging.io.validation import Model, plain, validate


@dataclass(frozen=True)
class Family:
    """A family of tasks.

    inputs, rows, answers, task: the views of a task (twin_merging.tasks.task), of which the last has all fields;
    methods: kinds of merging methods that its models can be made by; statistics: kinds of training statistics that can
    be gathered; usage: how a model card says that a model of these tasks, with a router or without, and with one that
    reads raw text, is used; columns: what predictions have beside the output, as type by name; same: built-in protocols
    that are another one here, by their names; lora_spaces: those that dynamic methods can be in; features: what a
    router can read beside hidden states (twin_merging.routing.layers).
    """

    name: str
    inputs: type[Any]
    rows: type[Any]
    answers: type[Any]
    task: type[Any]
    methods: tuple[str, ...]
    statistics: tuple[str, ...]
    usage: Callable[[Sequence[str], bool, bool], str]
    columns: Mapping[str, Any] = field(default_factory=dict)
    same: Mapping[str, str] = field(default_factory=dict)
    lora_spaces: tuple[str, ...] = ("product",)
    features: tuple[str, ...] = ()

    def views(self, view: type[Any], told: Mapping[str, Any], data: Mapping[str, Path]) -> dict[str, Any]:
        """One view of several tasks, from what a job is told of each and the folder of its data."""
        return {task: validate(view, content).beside(data[task]) for task, content in told.items()}

    def of_entry(self, entry: Mapping[str, Any]) -> Any:
        """The task of a suite's entry, which has other keys too (data, expert)."""
        return validate(self.task, {key: entry[key] for key in self.task.model_fields if key in entry})


def told(task: Model, view: type[Model]) -> dict[str, Any]:
    """What a view tells of a task, as plain data: the parameters of a job. What is absent has no key."""
    return {
        key: plain(value)
        for key, field in view.model_fields.items()
        if (value := getattr(task, key)) is not None or ABSENT not in field.metadata
    }
