"""Router of kind mlp: a multi-layer perceptron (arXiv 2406.15479, section 3.3), with the sizes of the paper's code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import nn

from twin_merging.routing.router import Router, shape_in


class MLPRouter(Router):
    """Three linear layers, d -> hidden_size -> hidden_size -> T, with batch normalisation, LeakyReLU and dropout.

    hidden_size is 2d unless it is given.
    """

    kind = "mlp"

    def __init__(
        self,
        tasks: list[str],
        size: int,
        hidden_size: int | None = None,
        dropout: float = 0.5,
        features: Any = "last",
        temperature: float = 1.0,
        top_k: int | None = None,
    ):
        super().__init__(tasks, size, features, temperature, top_k)
        hidden = hidden_size or 2 * size
        self.fc1 = nn.Linear(size, hidden)
        self.bn1 = nn.BatchNorm1d(hidden)
        self.fc3 = nn.Linear(hidden, hidden)
        self.bn3 = nn.BatchNorm1d(hidden)
        self.fc4 = nn.Linear(hidden, len(tasks))
        self.dropout = nn.Dropout(dropout)

    @classmethod
    def shaped_as(cls, state: Mapping[str, torch.Tensor], tasks: list[str], settings: Mapping[str, Any]) -> Self:
        hidden, size = shape_in(state, "fc1.weight", 2)
        return cls(tasks, size, hidden, settings.get("dropout", 0.0))

    def options(self) -> dict[str, Any]:
        return {"hidden_size": self.fc1.out_features, "dropout": self.dropout.p}

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        hidden = self.dropout(nn.functional.leaky_relu(self.bn1(self.fc1(features))))
        hidden = self.dropout(nn.functional.leaky_relu(self.bn3(self.fc3(hidden))))
        return self.fc4(hidden)
