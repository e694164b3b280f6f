"""One method of a suite, with every option that it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twin_merging.merging.choices import choices_in
from twin_merging.merging.registry import Method
from twin_merging.routing.expected import EXPECTED_LOSS
from twin_merging.suite.expansion import LEAVE_OUT, TASKS, Sweep


@dataclass(frozen=True)
class Entry:
    """A method of a suite under its name there.

    merged: the tasks whose experts are merged (and routed); evaluated: those whose rows are answered; both in the
    suite's order. swept: the sweep that made the entry, None for one that stands in the file as it is.
    """

    name: str
    method: Method
    protocol: str
    options: Mapping[str, Any]
    merged: tuple[str, ...]
    evaluated: tuple[str, ...]
    swept: Sweep | None = None

    @property
    def kind(self) -> str:
        return self.method.kind

    @property
    def weights(self) -> str:
        """What weighs a dynamic method's exclusive vectors: `router`, `expected_loss`, `uniform` or `oracle`."""
        return self.options.get("weights", "router")

    @property
    def has_router(self) -> bool:
        """Whether a router takes part in the weights of a dynamic method."""
        return self.weights in ("router", EXPECTED_LOSS)

    @property
    def crosses(self) -> bool:
        """Whether the weights rest on scores of validation rows under each task's exclusive vector."""
        return self.weights == EXPECTED_LOSS

    @property
    def is_tried(self) -> bool:
        """Whether validation rows are answered before the model is made."""
        return bool(self.choices) or self.crosses

    @property
    def choices(self) -> dict[str, list[Any]]:
        """Options that are chosen on validation rows, by path, with the values to try."""
        return choices_in(self.options)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Tasks that are not merged, and answered all the same."""
        return tuple(task for task in self.evaluated if task not in self.merged)

    @property
    def values(self) -> Mapping[str, Any]:
        """The value of each swept option, where a sweep made the entry."""
        return self.swept.values if self.swept else {}

    def plain(self) -> dict[str, Any]:
        """How the model is made of its tasks, whichever these are."""
        return {"method": self.method.name, "protocol": self.protocol, **self.options}

    def subset(self, tasks: tuple[str, ...]) -> dict[str, list[str]]:
        """What the normal form says of an entry that is not about all of the suite's `tasks`."""
        found = {} if self.evaluated == tasks else {TASKS: list(self.evaluated)}
        return found | ({LEAVE_OUT: list(self.left_out)} if self.left_out else {})
