"""Lines of pretraining in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def lines_in_batches(lengths: Sequence[int], batch_size: int, generator: torch.Generator) -> Iterator[list[int]]:
    """Yield the numbers of a batch's lines, without end. Lines of similar length are together, and every epoch has
    another order."""
    import torch

    pool = 8 * batch_size
    while True:
        order = torch.randperm(len(lengths), generator=generator).tolist()
        for start in range(0, len(order), pool):
            near = sorted(order[start : start + pool], key=lengths.__getitem__)
            batches = [near[i : i + batch_size] for i in range(0, len(near), batch_size)]
            for i in torch.randperm(len(batches), generator=generator).tolist():
                yield batches[i]


def padded(rows: Sequence[Sequence[float]], padding: float) -> torch.Tensor:
    """Rows of several lengths as one tensor, filled up on the right."""
    import torch

    width = max(map(len, rows))
    return torch.tensor([[*row, *[padding] * (width - len(row))] for row in rows])
