"""Merging as one writes it first: whole state dicts in memory, torch operations on whole tensors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

Tensors = dict[str, torch.Tensor]


def load(directory: Path) -> Tensors:
    """All tensors of a directory, in one file or in shards, in fp32."""
    found: Tensors = {}
    for file in sorted(directory.glob("*.safetensors")):
        found |= load_file(file)
    return {name: tensor.float() for name, tensor in found.items()}


def vectors(base: Path, experts: list[Path]) -> tuple[Tensors, list[Tensors]]:
    start = load(base)
    found = []
    for directory in experts:
        expert = load(directory)
        found.append({name: expert[name] - start[name] for name in start})
    return start, found


def add(start: Tensors, taus: list[Tensors], scaling: float) -> Tensors:
    return {name: start[name] + scaling * sum(tau[name] for tau in taus) for name in start}


def ties(start: Tensors, taus: list[Tensors], density: float, scaling: float) -> Tensors:
    trimmed = []
    for tau in taus:
        flat = torch.cat([tensor.flatten().abs() for tensor in tau.values()])
        threshold = flat.kthvalue(flat.numel() - int(density * flat.numel())).values
        trimmed.append({name: torch.where(tensor.abs() >= threshold, tensor, 0) for name, tensor in tau.items()})
    merged = {}
    for name, value in start.items():
        stacked = torch.stack([tau[name] for tau in trimmed])
        agree = (stacked * stacked.sum(0).sign()) > 0
        merged[name] = value + scaling * (stacked * agree).sum(0) / agree.sum(0).clamp(min=1)
    return merged


def dare(taus: list[Tensors], drop_rate: float) -> list[Tensors]:
    keep = 1 - drop_rate
    return [{n: t * torch.bernoulli(torch.full_like(t, keep)) / keep for n, t in tau.items()} for tau in taus]


METHODS: dict[str, Callable[[Tensors, list[Tensors]], Tensors]] = {
    "weight_average": lambda start, taus: add(start, taus, 1 / len(taus)),
    "task_arithmetic": lambda start, taus: add(start, taus, 0.3),
    "ties": lambda start, taus: ties(start, taus, 0.2, 1.0),
    "dare_task_arithmetic": lambda start, taus: add(start, dare(taus, 0.7), 0.3),
    "dare_ties": lambda start, taus: ties(start, dare(taus, 0.7), 0.3, 1.0),
}


def merge(method: str, base: Path, experts: list[Path], output: Path, dtype: Any) -> None:
    merged = METHODS[method](*vectors(base, experts))
    output.mkdir(parents=True)
    save_file({name: tensor.to(dtype) for name, tensor in merged.items()}, output / "model.safetensors")
