"""Router of kind projection (MASS, 2026): data-free, made from what fine-tuning changed in one layer.

It measures how much of a feature is outside the input directions that a task's vector tau_t changes most.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import nn

from twin_merging.routing.router import Router, shape_in

THRESHOLD, AT_MOST = 0.2, 3  # MASS's
_EQUAL = 1e-6  # a spread of residuals, each at most 1, up to this is rounding


class ProjectionRouter(Router):
    """logits_t = the z-score over the tasks of -r_t, with r_t = |z - V_t' V_t z| and z the feature scaled to norm 1.

    `directions` (T, rank, d) holds the V_t: orthonormal rows, the input directions that tau_t changes most in layer
    `layer`. A task with fewer than `rank` of them has rows of 0. The weights above `threshold` are kept, at most
    `at_most` of them (None: all), scaled to sum 1; where none is above it, the largest alone is kept.
    """

    kind = "projection"
    directions: torch.Tensor

    def __init__(
        self,
        tasks: list[str],
        size: int,
        rank: int,
        layer: int,
        threshold: float = THRESHOLD,
        at_most: int | None = AT_MOST,
        **common: Any,
    ):
        super().__init__(tasks, size, **common)
        self.rank, self.layer, self.threshold, self.at_most = rank, layer, threshold, at_most
        self.register_buffer("directions", torch.zeros(len(tasks), rank, size))

    @classmethod
    def shaped_as(cls, state: Mapping[str, torch.Tensor], tasks: list[str], settings: Mapping[str, Any]) -> Self:
        _, rank, size = shape_in(state, "directions", 3)
        kept = {key: settings[key] for key in ("threshold", "at_most") if key in settings}
        return cls(tasks, size, rank, settings["layer"], **kept)

    def options(self) -> dict[str, Any]:
        return {"rank": self.rank, "layer": self.layer, "threshold": self.threshold, "at_most": self.at_most}

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return z_scores(-residuals(features, self.directions))

    def kept(self, weights: torch.Tensor) -> torch.Tensor:
        return super().kept(keep_above(weights, self.threshold, self.at_most))


def residuals(features: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """r (batch, T): the norm of the part of each feature, scaled to norm 1, that is outside a task's directions."""
    points = nn.functional.normalize(features, dim=-1)
    return torch.stack([(points - points @ V.T @ V).norm(dim=-1) for V in directions], dim=-1)


def z_scores(values: torch.Tensor) -> torch.Tensor:
    """Each row (T) less its mean, divided by its standard deviation (over T, not T - 1); 0 where all are equal."""
    away = values - values.mean(-1, keepdim=True)
    spread = away.square().mean(-1, keepdim=True).sqrt()
    return torch.where(spread > _EQUAL, away / spread.clamp(min=_EQUAL), 0.0)


def keep_above(weights: torch.Tensor, threshold: float, at_most: int | None) -> torch.Tensor:
    """Keep of each row (T) the weights above `threshold`, at most so many, scaled to sum 1; else the largest alone.

    Of equal weights the first tasks' are kept.
    """
    order = weights.argsort(dim=-1, descending=True, stable=True)
    ranked = weights.gather(-1, order)
    kept = ranked > threshold
    if at_most is not None:
        kept[..., at_most:] = False
    kept[..., 0] = True
    found = torch.zeros_like(weights).scatter(-1, order, ranked * kept)
    return found / found.sum(-1, keepdim=True)
