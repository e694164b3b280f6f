"""Pretraining of the embedded suites' bases: lines in batches, and steps of the optimiser."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_WARMUP = 0.1


@dataclass(frozen=True)
class Settings:
    seed: int
    steps: int
    batch_size: int
    learning_rate: float


class Optimiser:
    """AdamW with warm-up and linear decay."""

    def __init__(self, parameters: Sequence[torch.nn.Parameter], settings: Settings):
        import torch
        from transformers import get_linear_schedule_with_warmup

        self._parameters = parameters
        self._adam = torch.optim.AdamW(
            parameters, lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True
        )
        warmup = math.ceil(_WARMUP * settings.steps)
        self._schedule = get_linear_schedule_with_warmup(self._adam, warmup, settings.steps)

    def step(self, loss: torch.Tensor) -> None:
        """One step down a loss, whose gradient is clipped to norm 1."""
        import torch

        self._adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._adam.step()
        self._schedule.step()


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
