"""The router: an MLP from a feature to one weight a task (paper, section 3.3; sizes of the paper's code)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from twin_merging.checkpoints import Checkpoint, save_tensors
from twin_merging.files import read_json, write_json

CONFIG = "config.json"
WEIGHTS = "model.safetensors"


class Router(nn.Module):
    """d -> 2d -> 2d -> T with batch normalisation, LeakyReLU and dropout.

    `tasks` names the outputs. `weights` turns logits into mixing weights with `temperature` and `top_k`.
    """

    def __init__(
        self,
        tasks: list[str],
        size: int,
        dropout: float = 0.5,
        features: str = "last",
        temperature: float = 1.0,
        top_k: int | None = None,
    ):
        super().__init__()
        self.tasks, self.size, self.features = list(tasks), size, features
        self.temperature, self.top_k = temperature, top_k
        self.fc1 = nn.Linear(size, 2 * size)
        self.bn1 = nn.BatchNorm1d(2 * size)
        self.fc3 = nn.Linear(2 * size, 2 * size)
        self.bn3 = nn.BatchNorm1d(2 * size)
        self.fc4 = nn.Linear(2 * size, len(tasks))
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features (batch, d) to logits (batch, T)."""
        hidden = self.dropout(nn.functional.leaky_relu(self.bn1(self.fc1(features))))
        hidden = self.dropout(nn.functional.leaky_relu(self.bn3(self.fc3(hidden))))
        return self.fc4(hidden)

    def weights(self, features: torch.Tensor) -> torch.Tensor:
        """Features (batch, d) to mixing weights (batch, T) that sum to 1; under top_k all but k of them are 0."""
        weights = (self(features) / self.temperature).softmax(-1)
        return keep_largest(weights, self.top_k)

    def save(self, directory: Path) -> None:
        """Write config.json and model.safetensors; BatchNorm's integer counter is left out."""
        config: dict[str, Any] = {
            "architecture": "mlp",
            "tasks": self.tasks,
            "size": self.size,
            "features": self.features,
            "temperature": self.temperature,
            "top_k": self.top_k,
        }
        save_tensors(Path(directory) / WEIGHTS, router_tensors(self))
        write_json(Path(directory) / CONFIG, config)

    @classmethod
    def load(cls, directory: Path) -> Router:
        config = read_json(Path(directory) / CONFIG)
        router = cls(**{key: value for key, value in config.items() if key != "architecture"})
        return load_router_tensors(router, Checkpoint(Path(directory) / WEIGHTS)).eval()


def router_tensors(router: Router) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in router.state_dict().items() if tensor.is_floating_point()}


def load_router_tensors(router: Router, tensors: Mapping[str, torch.Tensor]) -> Router:
    """Load every floating-point tensor of the router. Raises RuntimeError, naming them, when some do not fit."""
    counters = {name: tensor for name, tensor in router.state_dict().items() if not tensor.is_floating_point()}
    router.load_state_dict({**counters, **tensors})
    return router


def keep_largest(weights: torch.Tensor, top_k: int | None) -> torch.Tensor:
    """Keep the top_k largest weights of each row and renormalise them; of equal ones the first tasks'."""
    if top_k is None or top_k >= weights.shape[-1]:
        return weights
    order = weights.argsort(dim=-1, descending=True, stable=True)[..., :top_k]
    kept = torch.zeros_like(weights).scatter(-1, order, weights.gather(-1, order))
    return kept / kept.sum(-1, keepdim=True)
