"""Router of kind neighbours: which tasks the nearest stored features are of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import nn

from twin_merging.routing.router import Router, shape_in


class NeighboursRouter(Router):
    """logits_t = log of task t's share among the `neighbours` stored features that are nearest, -inf where it has none.

    `stored` (rows, d) are the features and `owner` (rows,) the tasks that they are of. Of features at one distance
    the first stored counts first.
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
        # Differences, not products: a row's distances do not depend on its batch, and equal features tie exactly.
        distances = torch.cdist(features, self.stored, compute_mode="donot_use_mm_for_euclid_dist")
        nearest = distances.sort(stable=True, dim=-1).indices[:, : self.neighbours]
        votes = nn.functional.one_hot(self.owner[nearest], len(self.tasks)).sum(1)
        return (votes / nearest.shape[1]).log()
