"""Makes the routers that need no training, from features or task vectors. Computed in fp64, stored in fp32.

Each function returns the tensors of the router's file, and what metrics.json says about how they were found.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from twin_merging.errors import UserError
from twin_merging.routing.directions import read_directions

log = logging.getLogger(__name__)

Fitted = tuple[dict[str, torch.Tensor], dict[str, Any]]


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


def fit_projection(size: int, vectors: Mapping[str, Path], layer: int, rank: int | None) -> Fitted:
    """Each task's directions (rank, d), from the files of the task vectors. No row is read.

    size: d, the width of a feature. rank: how many directions a task has at most; None: floor(d / T), MASS's rule
    floor(min(m, n) / T) for matrices that read d numbers and write no fewer. Raises UserError if no task vector changes
    a matrix that reads the layer's input.
    """
    rank = rank or max(1, size // len(vectors))
    found = [read_directions(path, layer, rank, size) for path in vectors.values()]
    most = max(map(len, found))
    if not most:
        files = ", ".join(map(str, vectors.values()))
        raise UserError(
            f"{files}: every query, key and value matrix of layer {layer} is zero or missing, but kind projection "
            "reads them; name another layer in features"
        )
    directions = torch.zeros(len(vectors), most, size, dtype=torch.float64)
    for task, (path, V) in enumerate(zip(vectors.values(), found, strict=True)):
        directions[task, : len(V)] = V
        log.info("%s: %d directions of layer %d", path, len(V), layer)
    counts = dict(zip(vectors, map(len, found), strict=True))
    return {"directions": directions.float()}, {"train_rows": 0, "directions": counts}
