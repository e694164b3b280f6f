"""Features, task vectors and routers of every kind, for three tasks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from twin_merging.io.tensors import Checkpoint, save_tensors
from twin_merging.routing.kinds import build_router
from twin_merging.routing.router import Router
from twin_merging.routing.training import make_router

TASKS = ["a", "b", "c"]
SIZE, ROWS, LAYER = 8, 33, 1
MLP = {"epochs": 3, "batch_size": 16, "learning_rate": 5e-3, "weight_decay": 0.01, "dropout": 0.5}
MASS = {"threshold": 0.2, "at_most": 3}
SETTINGS: dict[str, dict[str, Any]] = {
    "mlp": {"kind": "mlp", "features": "last", "hidden_size": 5, **MLP},
    "mahalanobis": {"kind": "mahalanobis", "features": {"layers": [0, 2]}},
    "neighbours": {"kind": "neighbours", "features": "last", "neighbours": 4, "stored": 20},
    "projection": {"kind": "projection", "features": {"layer": LAYER}, "rank": 3, "layer": LAYER, **MASS},
}


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def attention(layer: int) -> dict[str, tuple[int, int]]:
    names = (f"encoder.layer.{layer}.attention.self.{part}.weight" for part in ("query", "key", "value"))
    return dict.fromkeys(names, (SIZE, SIZE))


def write_vector(path: Path, matrices: dict[str, torch.Tensor]) -> None:
    """A dense task vector's file."""
    save_tensors(path, matrices, {"form": "dense"})


def write_lora(path: Path, factors: dict[str, tuple[torch.Tensor, torch.Tensor]], scale: float) -> None:
    """The file of a LoRA expert's task vector. factors: A (r, n) and B (m, r) of each matrix."""
    tensors: dict[str, torch.Tensor] = {}
    for name, (down, up) in factors.items():
        tensors |= {f"{name}.lora_A": down, f"{name}.lora_B": up}
    save_tensors(path, tensors, {"form": "lora", "scales": json.dumps(dict.fromkeys(factors, scale))})


def rows(features: Path, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    stored = Checkpoint(features)
    return torch.cat([stored[f"{task}/{split}"] for task in TASKS]), torch.arange(3).repeat_interleave(ROWS)


def made(kind: str, features: Path, folder: Path, vectors: dict[str, Path], **options: Any) -> Router:
    settings = {**SETTINGS[kind], **options}
    make_router(
        features=features,
        tasks=TASKS,
        settings=settings,
        seed=0,
        output=folder / "state",
        metrics=folder / "metrics.json",
        task_vectors=vectors,
    )
    return build_router(settings, TASKS, Checkpoint(folder / "state"))
