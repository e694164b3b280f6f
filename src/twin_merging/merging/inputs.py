"""What a merge reads: the base and the task vectors, by ranges of rows, in as many processes as are asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from twin_merging.checkpoints.experts import Factors
from twin_merging.errors import UserError
from twin_merging.io.ranges import CHUNK, chunks, row_count
from twin_merging.merging.registry import Parameter
from twin_merging.merging.workers import batches, in_order

if TYPE_CHECKING:
    import torch

Result = TypeVar("Result")
RowRange = tuple[str, int, int]  # a parameter, and the first and last (exclusive) of some of its rows


class Tensors(Protocol):
    """Named tensors that are read by ranges of rows."""

    def rows(self, name: str, start: int, stop: int) -> torch.Tensor: ...
    def shape(self, name: str) -> tuple[int, ...]: ...


class Vector(Protocol):
    """One expert's task vector. `where` is what an error names as its place."""

    where: str

    def changes(self, name: str) -> bool:
        """Whether the expert changes a parameter at all (a LoRA adapter leaves most alone)."""
        ...

    def factors(self, name: str) -> Factors | None:
        """The low-rank form of a LoRA adapter's change."""
        ...

    def rows(self, name: str, start: int, stop: int, base: torch.Tensor) -> torch.Tensor:
        """fp32 rows of tau; `base`: the same rows of theta_0, fp32."""
        ...


@dataclass(frozen=True)
class Inputs:
    """The parameters that are merged, `names`, and where they are read from.

    vectors, statistics: by task, in alphabetical order. transform: applied to each Parameter that is read. chunk: how
    many numbers of each are in memory at once. progress: wraps an iterator, with what is done and how often.
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
        """The same inputs with every Parameter transformed as it is read."""
        first = self.transform
        return replace(self, transform=transform if first is None else lambda parameter: transform(first(parameter)))

    def chunks(self, whole: bool = False, names: Iterable[str] | None = None) -> list[RowRange]:
        """Every range of rows that is read at once; `whole`: whole parameters."""
        found = []
        for name in self.names if names is None else names:
            bounds = [(0, self.rows_of(name))] if whole else chunks(self.base.shape(name), self.chunk)
            found += [(name, start, stop) for start, stop in bounds]
        return found

    def parameter(self, rows: RowRange) -> Parameter:
        """A range of rows, checked. Raises UserError for NaN or infinity, with the file and the tensor."""
        name, start, stop = rows
        base = self.base.rows(name, start, stop).float()
        check_finite(base, "the base", name)
        vectors = {}
        for task, vector in self.vectors.items():
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
        """`function` of every range of rows, in their order, with the parameter's name."""

        def work(rows: RowRange) -> tuple[str, Result]:
            return rows[0], function(self.parameter(rows))

        yield from self.progress(in_order(self.chunks(), work, self.workers), what, len(self.chunks()))

    def gather(
        self, start: Callable[[], Result], add: Callable[[Result, Parameter], None], what: str
    ) -> Iterator[Result]:
        """What `add` makes of `start()` with every range of rows, in parts whose number depends on that of processes:
        for sums without rounding."""

        def work(share: Sequence[RowRange]) -> Result:
            found = start()
            for rows in share:
                add(found, self.parameter(rows))
            return found

        shares = batches(self.chunks(), self.workers)
        yield from self.progress(in_order(shares, work, self.workers), what, len(shares))

    def _statistics_of(self, name: str, start: int, stop: int) -> dict[str, torch.Tensor]:
        """Statistics of one parameter: the same rows where they have its shape, else whole."""
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
