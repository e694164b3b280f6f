"""Routers that need no training: what each kind stores, from features and exclusives. Computed in fp64, stored in fp32.

Each function gives the tensors of a router's file and what metrics.json says of how they were found.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from twin_merging.compression.exclusives import Exclusive
from twin_merging.errors import UserError
from twin_merging.routing.projection import residuals

log = logging.getLogger(__name__)

Fitted = tuple[dict[str, torch.Tensor], dict[str, Any]]

# Last part of the names of the matrices that read a layer's input; c_attn is stored (in, out), all others (out, in).
READERS = ("query", "key", "value", "q_proj", "k_proj", "v_proj", "c_attn")
TRANSPOSED = "c_attn"


def fit_mahalanobis(x: torch.Tensor, y: torch.Tensor, tasks: int) -> Fitted:
    """Means (T, d) of train features x (n, d) of tasks y (n,), and a factor of the inverse of their common covariance.

    The covariance about the tasks' own means is shrunk towards a multiple of the identity (Ledoit and Wolf 2004). With
    C C' the covariance, the factor is inverse(C)'.
    """
    from sklearn.covariance import ledoit_wolf

    x = x.double()
    means = torch.stack([x[y == task].mean(0) for task in range(tasks)])
    found, shrinkage = ledoit_wolf((x - means[y]).numpy(), assume_centered=True)
    root, failed = torch.linalg.cholesky_ex(torch.from_numpy(found))
    if failed or not root.isfinite().all():
        raise UserError(
            f"router of kind mahalanobis: {len(x)} train rows have a singular covariance; raise limits.router"
        )
    identity = torch.eye(x.shape[1], dtype=torch.float64)
    whitening = torch.linalg.solve_triangular(root, identity, upper=False).T
    log.info("covariance of %d rows, shrunk by %.4f", len(x), shrinkage)
    state = {"means": means.float(), "whitening": whitening.float().contiguous()}
    return state, {"train_rows": len(x), "shrinkage": float(shrinkage)}


def fit_neighbours(x: torch.Tensor, y: torch.Tensor, tasks: int, stored: int) -> Fitted:
    """The first `stored` train features of each task, in the order of the tasks."""
    rows = torch.cat([torch.nonzero(y == task)[:stored, 0] for task in range(tasks)])
    return {"stored": x[rows].float(), "owner": y[rows]}, {"train_rows": len(rows)}


def fit_projection(
    held_x: torch.Tensor, held_y: torch.Tensor, exclusives: Mapping[str, Path], layer: int, rank: int
) -> Fitted:
    """Each task's directions (rank, d), and the scale that has the least cross-entropy on held-out rows.

    The scale is one number, taken from 101 values, 20 a decade from 1e-4 to 10. No train row is read. Raises UserError
    when no task's exclusive changes what the layer reads.
    """
    directions = torch.zeros(len(exclusives), rank, held_x.shape[1], dtype=torch.float64)
    for task, path in enumerate(exclusives.values()):
        found = read_directions(path, layer, rank, held_x.shape[1])
        directions[task, : len(found)] = found
        log.info("%s: %d directions of layer %d", path, len(found), layer)
    if not directions.any():
        files = ", ".join(map(str, exclusives.values()))
        raise UserError(
            f"{files}: no query, key or value matrix of layer {layer} that is not zero, and kind projection "
            "needs some; name another layer in features, or a protocol that merges matrices"
        )
    left = residuals(held_x.double(), directions)
    grid = torch.logspace(-4, 1, 101, dtype=torch.float64)
    losses = torch.stack([nn.functional.cross_entropy(-left / scale, held_y) for scale in grid])
    scale = grid[losses.argmin()].reshape(1).float()
    return {"directions": directions.float(), "scale": scale}, {"train_rows": 0, "scale": float(scale)}


def read_directions(path: Path, layer: int, rank: int, size: int) -> torch.Tensor:
    """Orthonormal rows (at most `rank`, size), fp64: the top right singular vectors of an exclusive's query, key and
    value matrices of one layer, one upon the other; none where the file holds none of these matrices."""
    exclusive = Exclusive(path, {"fraction": 1.0})
    factors = [torch.zeros(0, size, dtype=torch.float64)]
    for name in exclusive.matrices:
        if not reads_input(name, layer):
            continue
        found = exclusive.matrix(name)
        reading = found.U.T if name.removesuffix(".weight").endswith(TRANSPOSED) else found.V
        if reading.shape[1] != size:
            raise UserError(
                f"{path}: matrix '{name}' reads {reading.shape[1]} numbers, features have {size}; run route again"
            )
        factors.append(found.S[:, None].double() * reading.double())
    _, S, V = torch.linalg.svd(torch.cat(factors), full_matrices=False)
    return V[: int((S[:rank] > 1e-6 * S.max()).sum())] if S.numel() else V


def reads_input(name: str, layer: int) -> bool:
    """Whether a parameter is a query, key or value matrix of a layer, by the first number in its name."""
    parts = name.removesuffix(".weight").split(".")
    return parts[-1] in READERS and next((int(part) for part in parts if part.isdigit()), None) == layer
