"""Makes the routers that need no training, from features and exclusive vectors. Computed in fp64, stored in fp32.

Each function returns the tensors of the router's file, and what metrics.json says about how they were found.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from twin_merging.algebra.solvers import svd
from twin_merging.compression.exclusives import Exclusive
from twin_merging.errors import UserError
from twin_merging.routing.projection import residuals

log = logging.getLogger(__name__)

Fitted = tuple[dict[str, torch.Tensor], dict[str, Any]]

# The matrices that read a layer's input have names that end so. c_attn is stored as (in, out), all others as (out, in).
READERS = ("query", "key", "value", "q_proj", "k_proj", "v_proj", "c_attn")
TRANSPOSED = "c_attn"


def fit_mahalanobis(x: torch.Tensor, y: torch.Tensor, tasks: int) -> Fitted:
    """The tasks' means (T, d), and a factor of the inverse of the covariance that all tasks have in common.

    x (n, d) holds train features, and y (n,) the task of each. The covariance is taken about each task's own mean, and
    shrunk towards a multiple of the identity (Ledoit and Wolf 2004). If it is C C', the factor is inverse(C)'.
    """
    from sklearn.covariance import ledoit_wolf

    x = x.double()
    means = torch.stack([x[y == task].mean(0) for task in range(tasks)])
    found, shrinkage = ledoit_wolf((x - means[y]).numpy(), assume_centered=True)
    root, failed = torch.linalg.cholesky_ex(torch.from_numpy(found))
    if failed or not root.isfinite().all():
        raise UserError(
            f"router of kind mahalanobis: the covariance of {len(x)} train rows is singular; raise limits.router"
        )
    identity = torch.eye(x.shape[1], dtype=torch.float64)
    whitening = torch.linalg.solve_triangular(root, identity, upper=False).T
    log.info("covariance of %d rows, shrunk by %.4f", len(x), shrinkage)
    state = {"means": means.float(), "whitening": whitening.float().contiguous()}
    return state, {"train_rows": len(x), "shrinkage": float(shrinkage)}


def fit_neighbours(x: torch.Tensor, y: torch.Tensor, tasks: int, stored: int) -> Fitted:
    """Store the first `stored` train features of each task, in the order of the tasks."""
    rows = torch.cat([torch.nonzero(y == task)[:stored, 0] for task in range(tasks)])
    return {"stored": x[rows].float(), "owner": y[rows]}, {"train_rows": len(rows)}


def fit_projection(
    held_x: torch.Tensor, held_y: torch.Tensor, exclusives: Mapping[str, Path], layer: int, rank: int
) -> Fitted:
    """Each task's directions (rank, d), and the one scale that gives the least cross-entropy on held-out rows.

    The scale is chosen from 101 values between 1e-4 and 10, 20 for each power of ten. No train row is read. Raises
    UserError if no task's exclusive vector changes a matrix that reads the layer's input.
    """
    directions = torch.zeros(len(exclusives), rank, held_x.shape[1], dtype=torch.float64)
    for task, path in enumerate(exclusives.values()):
        found = read_directions(path, layer, rank, held_x.shape[1])
        directions[task, : len(found)] = found
        log.info("%s: %d directions of layer %d", path, len(found), layer)
    if not directions.any():
        files = ", ".join(map(str, exclusives.values()))
        raise UserError(
            f"{files}: every query, key and value matrix of layer {layer} is zero or missing, but kind projection "
            "reads them; name another layer in features, or a protocol that merges matrices"
        )
    left = residuals(held_x.double(), directions)
    grid = torch.logspace(-4, 1, 101, dtype=torch.float64)
    losses = torch.stack([nn.functional.cross_entropy(-left / scale, held_y) for scale in grid])
    scale = grid[losses.argmin()].reshape(1).float()
    return {"directions": directions.float(), "scale": scale}, {"train_rows": 0, "scale": float(scale)}


def read_directions(path: Path, layer: int, rank: int, size: int) -> torch.Tensor:
    """The input directions that an exclusive vector changes most in one layer: at most `rank` orthonormal rows, fp64.

    They are the top right singular vectors of its query, key and value matrices, stacked. There are none if the file
    holds none of these matrices.
    """
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
    _, S, V = svd(torch.cat(factors), f"{path}, layer {layer}")
    return V[: int((S[:rank] > 1e-6 * S.max()).sum())] if S.numel() else V


def reads_input(name: str, layer: int) -> bool:
    """Whether a parameter is a query, key or value matrix of this layer; the first number in a name is the layer's."""
    parts = name.removesuffix(".weight").split(".")
    return parts[-1] in READERS and next((int(part) for part in parts if part.isdigit()), None) == layer
