"""Whole parameters for methods that decompose matrices: read by blocks of rows where they are too large to hold.

The bounds of blocks depend on a parameter's shape alone, and so do the numbers that are computed from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from twin_merging.io.ranges import chunks, row_count
from twin_merging.merging.registry import Parameter

if TYPE_CHECKING:
    import torch

BLOCK = 2**22  # numbers of one matrix that are held in fp64 at once
# A parameter is read once, and held, if it has at most so many bytes in fp32, with the base and all experts.
HELD = 3 * 2**29


@dataclass(frozen=True)
class Blocks:
    """One whole parameter of the base and of `tasks`. `read` gives the rows from start to stop of the base and of the
    named tasks; the bounds are those of `bounds`, or the whole parameter's."""

    name: str
    shape: tuple[int, ...]
    tasks: Sequence[str]
    read: Callable[[int, int, Sequence[str]], Parameter]

    @classmethod
    def of(cls, parameter: Parameter) -> Blocks:
        """Of a parameter that is in memory."""

        def read(start: int, stop: int, tasks: Sequence[str]) -> Parameter:
            vectors = {task: parameter.vectors[task][start:stop] for task in tasks}
            return Parameter(parameter.name, parameter.base[start:stop], vectors, parameter.shape, start)

        if len(parameter.shape) < 2:  # one row, which is always whole
            return cls(parameter.name, parameter.shape, tuple(parameter.vectors), lambda *_: parameter)
        return cls(parameter.name, parameter.shape, tuple(parameter.vectors), read)

    def whole(self) -> Parameter:
        return self.read(0, row_count(self.shape), self.tasks)

    def base(self) -> torch.Tensor:
        return self.read(0, row_count(self.shape), ()).base


class Tall:
    """A matrix of the base and of every task, turned so that it has at least as many rows (m) as columns (n).

    A wide matrix is held whole in fp32, because a file gives rows and not columns.
    """

    def __init__(self, blocks: Blocks):
        self.name, self.tasks = blocks.name, blocks.tasks
        self.is_turned = blocks.shape[0] < blocks.shape[1]
        self.m, self.n = max(blocks.shape), min(blocks.shape)
        self._blocks = Blocks.of(blocks.whole()) if self.is_turned else blocks

    def bounds(self) -> list[tuple[int, int]]:
        return chunks((self.m, self.n), BLOCK)

    def vectors(self, start: int, stop: int, tasks: Sequence[str] | None = None) -> list[torch.Tensor]:
        """The rows (stop - start, n) of the task vectors of `tasks`, or of all, in fp32."""
        return list(self._rows(start, stop, self.tasks if tasks is None else tasks).vectors.values())

    def each(self, task: str) -> Iterator[torch.Tensor]:
        """One task's matrix, block by block."""
        return (self.vectors(start, stop, [task])[0] for start, stop in self.bounds())

    def whole(self, task: str) -> torch.Tensor:
        """One task's matrix (m, n) in fp64."""
        import torch

        return torch.cat([block.double() for block in self.each(task)])

    def plus(self, change: Callable[[int, int], torch.Tensor]) -> torch.Tensor:
        """The base plus a change, whose rows (stop - start, n) are asked for block by block: fp32, in the parameter's
        own shape."""
        import torch

        merged = torch.empty(self.m, self.n)
        for start, stop in self.bounds():
            merged[start:stop] = self._rows(start, stop, ()).base + change(start, stop).float()
        return merged.T.contiguous() if self.is_turned else merged

    def _rows(self, start: int, stop: int, tasks: Sequence[str]) -> Parameter:
        if not self.is_turned:
            return self._blocks.read(start, stop, tasks)
        whole = self._blocks.whole()
        vectors = {task: whole.vectors[task].T[start:stop] for task in tasks}
        return Parameter(whole.name, whole.base.T[start:stop], vectors, (self.m, self.n), start)
