"""Ties-Merging's election (Yadav et al. 2023, arXiv 2306.01708, algorithm 1).

Each entry elects one sign; the vectors that have this sign are merged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from twin_merging.merging.inputs import RowRange

if TYPE_CHECKING:
    import torch

Elect = Literal["sum", "count"]
Combine = Literal["mean", "sum"]


def ballot(vectors: Sequence[torch.Tensor], elect: Elect) -> torch.Tensor:
    """The sum of the vectors (`sum`) or of their signs (`count`). Its sign is the one that each entry elects."""
    import torch

    total = torch.zeros_like(vectors[0])
    for vector in vectors:
        total.add_(vector if elect == "sum" else vector.sign())
    return total


@dataclass(frozen=True)
class Votes:
    """The outcome in some rows.

    balance: the number of positive elected signs minus that of negative ones; tied: whether any votes cancelled out.
    """

    balance: int
    tied: bool


class Majority:
    """The sign of the sum of all elected signs. It decides where the votes for an entry cancel out.

    It is known only after every row has been merged. Until then it is assumed to be +. If it turns out not to be,
    `settle` returns the rows in which votes cancelled out, and these are merged again.
    """

    def __init__(self) -> None:
        self.sign = 1

    def settle(self, votes: Sequence[tuple[RowRange, Votes]]) -> list[RowRange]:
        total = sum(found.balance for _, found in votes)
        self.sign = int(total > 0) - int(total < 0)
        return [] if self.sign == 1 else [rows for rows, found in votes if found.tied]


def disjoint_merge(
    vectors: Sequence[torch.Tensor],
    elect: Elect,
    combine: Combine,
    majority: Majority,
    weights: Sequence[float] | None = None,
) -> tuple[torch.Tensor, Votes]:
    """Merge each entry over the vectors that have the elected sign there (a zero has none), by their mean or sum.

    Where no vector has it, the result is 0. Also returns how the votes fell. weights: factors that the vectors already
    have; the mean is then their sum divided by that of the factors, where that is not 0.
    """
    import torch

    votes = ballot(vectors, elect)
    sign = torch.copysign(torch.ones_like(votes), votes)
    total, agreeing = _agreement(vectors, sign, weights)
    positive, negative = (int(np.count_nonzero(found)) for found in (votes.numpy() > 0, votes.numpy() < 0))
    tied = np.zeros(0, bool)
    if positive + negative < votes.numel():  # votes of 0: a tie if some vector is positive there, else all are 0
        tied = (votes.numpy() == 0) & (agreeing.numpy() != 0)
    if majority.sign != 1 and tied.any():
        sign[torch.from_numpy(np.asarray(tied))] = float(majority.sign)
        total, agreeing = _agreement(vectors, sign, weights)
    total.mul_(sign)
    if combine == "mean":
        total.div_(agreeing.clamp_(min=1) if weights is None else agreeing.masked_fill_(agreeing == 0, 1))
    return total, Votes(positive - negative, bool(tied.any()))


def _agreement(
    vectors: Sequence[torch.Tensor], sign: torch.Tensor, weights: Sequence[float] | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """For each entry: the sum of the magnitudes of the vectors that have the given sign there, and their number, or the
    sum of their weights."""
    import torch

    total, agreeing = torch.zeros_like(sign), torch.zeros_like(sign)
    own, counted = torch.empty_like(sign), torch.empty_like(sign)
    for number, vector in enumerate(vectors):
        torch.mul(vector, sign, out=own).relu_()
        total.add_(own)
        agreeing.add_(torch.gt(own, 0, out=counted), alpha=1 if weights is None else weights[number])
    return total, agreeing
