"""Router of kind mahalanobis: measures the distance of a feature to each task's mean, under one covariance for all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch

from twin_merging.routing.router import Router, shape_in


class MahalanobisRouter(Router):
    """logits_t = -(z - mu_t)' P (z - mu_t) / 2, with `means` mu (T, d) and `whitening` W (d, d), W W' = P."""

    kind = "mahalanobis"
    means: torch.Tensor
    whitening: torch.Tensor

    def __init__(self, tasks: list[str], size: int, **common: Any):
        super().__init__(tasks, size, **common)
        self.register_buffer("means", torch.zeros(len(tasks), size))
        self.register_buffer("whitening", torch.zeros(size, size))

    @classmethod
    def shaped_as(cls, state: Mapping[str, torch.Tensor], tasks: list[str], settings: Mapping[str, Any]) -> Self:
        return cls(tasks, shape_in(state, "means", 2)[1])

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Whiten z and the means, and use -|z - mu|^2 / 2 = z' mu - |mu|^2 / 2 - |z|^2 / 2, which needs two products.

        z and the means are taken relative to the mean of the means.
        """
        centre = self.means.mean(0)
        points, means = (features - centre) @ self.whitening, (self.means - centre) @ self.whitening
        return points @ means.T - (means.square().sum(-1) + points.square().sum(-1, keepdim=True)) / 2
