"""Router of kind projection (MASS, 2026).

It measures how much of a feature is outside the input directions that a task's exclusive vector changes most.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import nn

from twin_merging.routing.router import Router, shape_in


class ProjectionRouter(Router):
    """logits_t = -r_t / scale, with r_t = |z - V_t' V_t z| and z the feature scaled to norm 1.

    `directions` (T, rank, d) holds the V_t: orthonormal rows, the input directions that the task's exclusive vector
    changes most in layer `layer`. A task with fewer than `rank` of them has rows of 0. `scale` (1,) is one number.
    """

    kind = "projection"
    directions: torch.Tensor
    scale: torch.Tensor

    def __init__(self, tasks: list[str], size: int, rank: int, layer: int, **common: Any):
        super().__init__(tasks, size, **common)
        self.rank, self.layer = rank, layer
        self.register_buffer("directions", torch.zeros(len(tasks), rank, size))
        self.register_buffer("scale", torch.ones(1))

    @classmethod
    def shaped_as(cls, state: Mapping[str, torch.Tensor], tasks: list[str], settings: Mapping[str, Any]) -> Self:
        _, rank, size = shape_in(state, "directions", 3)
        return cls(tasks, size, rank, settings["layer"])

    def options(self) -> dict[str, Any]:
        return {"rank": self.rank, "layer": self.layer}

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return -residuals(features, self.directions) / self.scale


def residuals(features: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """r (batch, T): the norm of the part of each feature, scaled to norm 1, that is outside a task's directions."""
    points = nn.functional.normalize(features, dim=-1)
    return torch.stack([(points - points @ V.T @ V).norm(dim=-1) for V in directions], dim=-1)
