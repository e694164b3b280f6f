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

    def known(self, logits: torch.Tensor) -> torch.Tensor:
        """How much nearer a row is to the nearest task than to rows of all tasks taken together (batch,): the squared
        distance to their mean under the covariance of all, less the squared distance to the task's mean (Ren et al.
        2021, arXiv 2106.09022).

        The plain distance hardly tells texts of other tasks apart: it is mostly of directions in which the tasks do not
        differ. These cancel here, so the logits alone say it. With whitened means m_t that sum to 0 and the whitened
        row p, s_t = m_t' p is the logit + |m_t|^2 / 2, centred; and the covariance of all is I + M' M / T.
        """
        means = (self.means - self.means.mean(0)) @ self.whitening
        G = means @ means.T
        s = logits + G.diagonal() / 2
        s = s - s.mean(-1, keepdim=True)
        nearest = (2 * s - G.diagonal()).amax(-1)
        both = len(G) * torch.eye(len(G), dtype=G.dtype, device=G.device) + G
        return nearest - (s * torch.linalg.solve(both, s.T).T).sum(-1)
