"""Router of kind neighbours: looks which tasks the nearest stored features belong to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import nn

from twin_merging.routing.router import Router, shape_in


class NeighboursRouter(Router):
    """The logit of task t is the log of its share among the `neighbours` nearest stored features; -inf if it has none.

    `stored` (rows, d) holds the features, and `owner` (rows,) the task of each. Of several features at the same
    distance, the one that is stored first counts as nearer.
    """

    kind = "neighbours"
    stored: torch.Tensor
    owner: torch.Tensor

    def __init__(self, tasks: list[str], size: int, rows: int, neighbours: int = 10, **common: Any):
        super().__init__(tasks, size, **common)
        self.neighbours = neighbours
        self.register_buffer("stored", torch.zeros(rows, size))
        self.register_buffer("owner", torch.zeros(rows, dtype=torch.int64))

    @classmethod
    def shaped_as(cls, state: Mapping[str, torch.Tensor], tasks: list[str], settings: Mapping[str, Any]) -> Self:
        rows, size = shape_in(state, "stored", 2)
        return cls(tasks, size, rows, settings["neighbours"])

    def options(self) -> dict[str, Any]:
        return {"neighbours": self.neighbours}

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        # Distances by differences, not by products: so they do not depend on the batch, and equal features tie exactly.
        distances = torch.cdist(features, self.stored, compute_mode="donot_use_mm_for_euclid_dist")
        nearest = distances.sort(stable=True, dim=-1).indices[:, : self.neighbours]
        votes = nn.functional.one_hot(self.owner[nearest], len(self.tasks)).sum(1)
        return (votes / nearest.shape[1]).log()
