"""Sparse exclusive knowledge (FREE-Merging's experts): of each row of theta_t - theta_s the largest entries.

A row of a matrix (m, n), as its file has it, keeps k = floor(density * n) entries and at least one, so all rows keep
equally many. They are stored as `columns` (m, k), whole numbers, and `values` (m, k). In each row they stand in falling
magnitude, so that the first ones are those of a smaller density. Of equal magnitudes the first columns are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_NARROW = 2**15  # columns up to here fit two bytes
_BLOCK = 2**22  # numbers that are sorted at once


@dataclass(frozen=True)
class Entries:
    """The kept entries of a matrix (m, width): columns (m, k) and values (m, k); norm2 is the squared norm of the whole
    matrix. Both are 0 where they are not known."""

    columns: torch.Tensor
    values: torch.Tensor
    width: int = 0
    norm2: float = 0.0

    @property
    def numbers(self) -> int:
        """How many numbers are stored: a column counts as one."""
        return self.columns.numel() + self.values.numel()

    def cut(self, count: int) -> Entries:
        return replace(self, columns=self.columns[:, :count].contiguous(), values=self.values[:, :count].contiguous())

    def to(self, dtype: torch.dtype) -> Entries:
        """The same with values of another dtype."""
        return replace(self, values=self.values.to(dtype))

    def times(self, factor: float) -> Entries:
        return replace(self, values=self.values * factor)


def count_of(width: int, density: float) -> int:
    """k: how many entries of a row of so many columns are kept."""
    return min(width, max(1, int(density * width + 1e-9)))


def narrow(width: int) -> torch.dtype:
    """The type of columns up to a number."""
    import torch

    return torch.int16 if width <= _NARROW else torch.int32


def largest_entries(matrix: torch.Tensor, density: float, norm2: float) -> Entries:
    """The largest entries of each row of a matrix (m, n)."""
    import torch

    m, n = matrix.shape
    count, columns = count_of(n, density), []
    step = max(1, _BLOCK // max(1, n))
    for start in range(0, m, step):
        order = matrix[start : start + step].abs().sort(dim=1, descending=True, stable=True).indices
        columns.append(order[:, :count].clone())
    places = torch.cat(columns)
    return Entries(places.to(narrow(n)), matrix.gather(1, places), n, norm2)


def dense(columns: torch.Tensor, values: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """The matrix (m, n) of kept entries."""
    return values.new_zeros(tuple(shape)).scatter_add_(1, columns.long(), values)
