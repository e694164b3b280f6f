"""What a merge reads: ranges of rows of the base and of the task vectors, in several processes if asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from twin_merging.checkpoints.adapters import Factors
from twin_merging.checkpoints.fused import Groups
from twin_merging.errors import UserError
from twin_merging.io.ranges import CHUNK, chunks, row_count
from twin_merging.merging.blocks import HELD, Blocks
from twin_merging.merging.registry import Parameter
from twin_merging.merging.workers import batches, in_order

if TYPE_CHECKING:
    import torch

Result = TypeVar("Result")
RowRange = tuple[str, int, int]  # a parameter's name, and the first and last (exclusive) of some of its rows


class Tensors(Protocol):
    """Named tensors that are read by ranges of rows."""

    def rows(self, name: str, start: int, stop: int) -> torch.Tensor: ...
    def shape(self, name: str) -> tuple[int, ...]: ...


class Vector(Protocol):
    """One expert's task vector. `where` is the file or folder that an error message names; `fused`: matrices that were
    one when a LoRA adapter was trained (twin_merging.checkpoints.fused)."""

    where: str

    @property
    def fused(self) -> Groups: ...

    def changes(self, name: str) -> bool:
        """Whether the expert changes a parameter at all (a LoRA adapter leaves most alone)."""
        ...

    def factors(self, name: str) -> Factors | None:
        """The two factors of the change, if a LoRA adapter makes it; else None."""
        ...

    def rows(self, name: str, start: int, stop: int, base: torch.Tensor) -> torch.Tensor:
        """Rows of the task vector tau in fp32; `base` holds the same rows of theta_0 in fp32."""
        ...


@dataclass(frozen=True)
class Inputs:
    """Everything that a merge reads: the parameters to merge are those of `names`.

    vectors, statistics: by task, in alphabetical order.
    workers: how many processes work at once.
    chunk: how many numbers of the base, and of each vector, are in memory at once.
    transform: if given, is applied to every Parameter after it is read.
    progress: called with an iterator, a word for the work, and the number of its steps; gives the same iterator back,
    and may show how far it is.
    """

    base: Tensors
    vectors: Mapping[str, Vector]
    names: tuple[str, ...]
    statistics: Mapping[str, Any] = field(default_factory=dict)
    workers: int = 1
    chunk: int = CHUNK
    transform: Callable[[Parameter], Parameter] | None = None
    progress: Callable[[Iterator[Any], str, int], Iterator[Any]] = lambda done, what, total: done

    @property
    def tasks(self) -> list[str]:
        return list(self.vectors)

    def rows_of(self, name: str) -> int:
        return row_count(self.base.shape(name))

    def over(self, transform: Callable[[Parameter], Parameter]) -> Inputs:
        """The same inputs, but every Parameter is transformed after it is read."""
        first = self.transform
        return replace(self, transform=transform if first is None else lambda parameter: transform(first(parameter)))

    def chunks(self, whole: bool = False, names: Iterable[str] | None = None) -> list[RowRange]:
        """The ranges of rows that are read at once, of all parameters; with `whole`, each parameter is one range."""
        found = []
        for name in self.names if names is None else names:
            bounds = [(0, self.rows_of(name))] if whole else chunks(self.base.shape(name), self.chunk)
            found += [(name, start, stop) for start, stop in bounds]
        return found

    def blocks(self, name: str) -> Blocks:
        """A whole parameter, for methods that take it by blocks of rows: read at once if it is small enough."""
        shape = self.base.shape(name)
        if 4 * math.prod(shape) * (1 + len(self.vectors)) <= HELD or len(shape) < 2:
            return Blocks.of(self.parameter((name, 0, self.rows_of(name))))
        return Blocks(name, shape, self.tasks, lambda start, stop, tasks: self.parameter((name, start, stop), tasks))

    def parameter(self, rows: RowRange, tasks: Collection[str] | None = None) -> Parameter:
        """Read a range of rows, of `tasks` alone where they are given.

        Raises UserError that names the file and the tensor if it holds NaN or infinity.
        """
        name, start, stop = rows
        base = self.base.rows(name, start, stop).float()
        check_finite(base, "the base", name)
        vectors = {}
        for task, vector in self.vectors.items():
            if tasks is not None and task not in tasks:
                continue
            vectors[task] = vector.rows(name, start, stop, base)
            check_finite(vectors[task], f"{vector.where}", name)
        found = Parameter(
            name=name,
            base=base,
            vectors=vectors,
            shape=self.base.shape(name),
            start=start,
            statistics=self._statistics_of(name, start, stop),
        )
        return found if self.transform is None else self.transform(found)

    def fold(self, function: Callable[[Parameter], Result], what: str) -> Iterator[tuple[str, Result]]:
        """Call `function` for every range of rows, and yield each parameter's name with the result, in order."""

        def work(rows: RowRange) -> tuple[str, Result]:
            return rows[0], function(self.parameter(rows))

        yield from self.progress(in_order(self.chunks(), work, self.workers), what, len(self.chunks()))

    def gather(
        self, start: Callable[[], Result], add: Callable[[Result, Parameter], None], what: str
    ) -> Iterator[Result]:
        """Add all ranges of rows up, in several parts, and yield the parts.

        Each part begins with `start()`, and `add` is called with it for one range after another. The number of parts
        depends on the number of processes, so use this only for sums that do not round.
        """

        def work(share: Sequence[RowRange]) -> Result:
            found = start()
            for rows in share:
                add(found, self.parameter(rows))
            return found

        shares = batches(self.chunks(), self.workers)
        yield from self.progress(in_order(shares, work, self.workers), what, len(shares))

    def _statistics_of(self, name: str, start: int, stop: int) -> dict[str, torch.Tensor]:
        """The statistics of one parameter: the same rows if they have its shape, else the whole tensor."""
        found = {}
        for task, tensors in self.statistics.items():
            if name in tensors:
                same = tensors.shape(name) == self.base.shape(name)
                found[task] = tensors.rows(name, start, stop) if same else tensors[name]
        return found


def check_finite(tensor: torch.Tensor, where: str, name: str) -> None:
    """Raise UserError when a tensor holds NaN or infinity. (A sum tells cheaply that it does not.)"""
    if not math.isfinite(tensor.sum()) and not tensor.isfinite().all():
        raise UserError(f"{where}: tensor '{name}' holds NaN or infinity; train or fetch it again")
