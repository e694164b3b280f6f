"""Weights that no input changes, in the place of a router: 1 / T for each of T tasks, or 1 for the true task.

They are controls: what routing gains over a plain mean, and what it costs beside knowing the task. No number of theirs
is stored, and no pass over the input is made for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch

from twin_merging.routing.router import Router


class FixedRouter(Router):
    """What both kinds have in common. `features` says only where a one-pass model stops being the shared one."""

    @classmethod
    def shaped_as(cls, state: Mapping[str, torch.Tensor], tasks: list[str], settings: Mapping[str, Any]) -> Self:
        return cls(tasks, 0, settings["features"])

    def weights_of(self, rows: int, tasks: Sequence[str | None] | None, device: Any = None) -> torch.Tensor:
        """Weights (rows, T), fp32. tasks: the true task of each row."""
        raise NotImplementedError


class UniformRouter(FixedRouter):
    kind = "uniform"

    def weights_of(self, rows: int, tasks: Sequence[str | None] | None, device: Any = None) -> torch.Tensor:
        return torch.full((rows, len(self.tasks)), 1 / len(self.tasks), device=device)


class OracleRouter(FixedRouter):
    kind = "oracle"

    def weights_of(self, rows: int, tasks: Sequence[str | None] | None, device: Any = None) -> torch.Tensor:
        """Raises ValueError for a row whose task is not named, or not one of the router's."""
        if tasks is None:
            raise ValueError("a model of oracle weights does not know its inputs' tasks: give tasks, a name a row")
        for task in tasks:
            if task not in self.tasks:
                raise ValueError(f"no weights are for task '{task}'; name one of {', '.join(self.tasks)}")
        own = torch.tensor([self.tasks.index(task) for task in tasks if task is not None], device=device)
        return torch.nn.functional.one_hot(own, len(self.tasks)).float()


class GivenWeights(FixedRouter):
    """The same weights (T,) for every input."""

    kind = "given"

    def __init__(self, tasks: list[str], given: Mapping[str, float]):
        """given: the weights of some tasks; those of the others are 0."""
        super().__init__(tasks, 0, "embedding")
        self._given = torch.tensor([given.get(task, 0.0) for task in tasks], dtype=torch.float32)

    def weights_of(self, rows: int, tasks: Sequence[str | None] | None, device: Any = None) -> torch.Tensor:
        return self._given.to(device).expand(rows, -1)
