"""What one forward pass of all gated layers shares: whose knowledge answers each row, and in which mixture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

Positions = slice | torch.Tensor

LEAST = 2.0**-24  # half of the distance from 1 to the next number in fp32


@dataclass
class Mixture:
    """The rows of one batch. weights: (batch, T), or None for the shared expert alone; tasks: (batch,) whose private
    parameters answer each row, or None for the shared body's own; groups: for weights that are one 1 a row, each task
    with its rows; by_task: each task of `tasks` with its rows; active: tasks that some row has a weight for.
    """

    weights: torch.Tensor | None
    tasks: torch.Tensor | None
    groups: list[tuple[int, Positions]] | None = None
    by_task: list[tuple[int, Positions]] = field(default_factory=list)
    active: tuple[int, ...] = ()
    _sets: list[tuple[tuple[int, ...], Positions]] | None = None
    _gates: dict[tuple[tuple[int, ...], torch.dtype], torch.Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, weights: torch.Tensor | None, tasks: torch.Tensor | None) -> Mixture:
        """What the weights say of the batch. Under torch.compile nothing depends on their values."""
        weights = None if weights is None else _felt(weights)
        found = cls(weights, tasks)
        if weights is not None and torch.compiler.is_compiling():
            found.active = tuple(range(weights.shape[1]))
        elif weights is not None:
            found.active = tuple(weights.ne(0).any(0).nonzero().flatten().tolist())
            if bool((weights.amax(1) == 1).all()) and bool((weights.count_nonzero(1) == 1).all()):
                found.groups = rows_by_task(weights.argmax(1))
        if tasks is not None:
            found.by_task = rows_by_task(tasks)
        return found

    @property
    def rows(self) -> int:
        one = self.weights if self.weights is not None else self.tasks
        return 0 if one is None else len(one)

    @property
    def parts(self) -> Iterator[tuple[int, Positions, torch.Tensor | None]]:
        """Each task that some row has a weight for, with its rows and their weights for it; None where these are 1."""
        if self.groups is not None:
            yield from ((task, rows, None) for task, rows in self.groups)
        elif self.weights is not None:
            yield from ((task, slice(None), self.weights[:, task]) for task in self.active)

    @property
    def sets(self) -> list[tuple[tuple[int, ...], Positions]]:
        """Each set of tasks that some row has weights for, with its rows; of a row without any, none."""
        if self._sets is None:
            found: dict[tuple[int, ...], int] = {}
            rows = [] if self.weights is None else self.weights.ne(0).tolist()
            kept = [tuple(task for task, is_kept in enumerate(row) if is_kept) for row in rows]
            numbers = torch.tensor([found.setdefault(tasks, len(found)) for tasks in kept], dtype=torch.long)
            if self.weights is not None:
                numbers = numbers.to(self.weights.device)
            names = list(found)
            self._sets = [(names[number], own) for number, own in rows_by_task(numbers) if names[number]]
        return self._sets

    def gate(self, ranks: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
        """Each row's weight for each of the stacked factors of matrices of `ranks`: (batch, sum of ranks)."""
        key = (ranks, like.dtype)
        if key not in self._gates:
            if self.weights is None:
                raise RuntimeError("no mixing weights")
            repeats = torch.tensor(ranks, device=self.weights.device)
            self._gates[key] = self.weights.to(like.dtype).repeat_interleave(repeats, dim=1, output_size=sum(ranks))
        return self._gates[key]

    def repeated(self, times: int) -> Mixture:
        """The same for a batch in which each row stands `times` times in a row, as in beam search."""
        weights = None if self.weights is None else self.weights.repeat_interleave(times, dim=0)
        tasks = None if self.tasks is None else self.tasks.repeat_interleave(times, dim=0)
        return Mixture.of(weights, tasks)


def _felt(weights: torch.Tensor) -> torch.Tensor:
    """The weights, with 0 for those that are less than the rounding of their row's largest one.

    A sure router's smallest weights are so small that products by them are subnormal numbers, which processors multiply
    many times more slowly; and a row of one task alone needs that task's factors only.
    """
    size = weights.abs()
    return weights.masked_fill(size < LEAST * size.amax(-1, keepdim=True), 0.0)


class Gates:
    """Holds the Mixture of the pass that runs; None: the shared body alone.

    joined: whether a row is answered by the merge of the tasks it has a weight for (twin_merging.model.joined).
    """

    def __init__(self) -> None:
        self.joined = False
        self.mixture: Mixture | None = None
        self.pending = False  # the mixture is about to be computed, within the pass itself
        self._repeated: dict[int, Mixture] = {}

    def set(self, mixture: Mixture | None) -> None:
        self.mixture, self.pending = mixture, False
        self._repeated = {}

    @contextmanager
    def holding(self, mixture: Mixture | None) -> Iterator[None]:
        before, pending = self.mixture, self.pending
        self.set(mixture)
        try:
            yield
        finally:
            self.set(before)
            self.pending = pending

    def of(self, x: torch.Tensor, broadcast: bool = False) -> Mixture | None:
        """The mixture for the rows of a layer's input (batch, ...). broadcast: one row may stand for all.

        Raises ValueError for an input whose first dimension is not the batch.
        """
        if self.pending:
            raise RuntimeError("a gated layer runs before the layer that the router reads")
        mixture = self.mixture
        if mixture is None or x.shape[0] == mixture.rows or (broadcast and x.shape[0] == 1):
            return mixture
        times, rest = divmod(x.shape[0], mixture.rows)
        if rest or times == 0:
            raise ValueError(f"a gated layer got {x.shape[0]} rows for a batch of {mixture.rows}")
        if times not in self._repeated:
            self._repeated[times] = mixture.repeated(times)
        return self._repeated[times]


def rows_by_task(tasks: torch.Tensor) -> list[tuple[int, Positions]]:
    """Each task that occurs, with its rows: a slice where they stand together, else their positions."""
    numbers = tasks.tolist()
    found: list[tuple[int, Positions]] = []
    for task in sorted(set(numbers)):
        places = [row for row, number in enumerate(numbers) if number == task]
        together = places[-1] - places[0] + 1 == len(places)
        found.append(
            (task, slice(places[0], places[-1] + 1) if together else torch.tensor(places, device=tasks.device))
        )
    return found
