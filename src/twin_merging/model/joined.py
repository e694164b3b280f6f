"""Rows that are answered by the merge of the tasks they keep (MASS): these tasks' singular triples, made orthogonal.

A matrix's stacked factors up (m, R) and down (R, n) hold the triples U S V' of each task's matrix. For a set K of tasks
with r triples together, TSV-M (arXiv 2412.00081) puts U, S and V side by side over K and makes both sides orthogonal:

    D_K = U (U'U)^(-1/2) S (V'V)^(-1/2) V' = up C down ,    C = S^-1 (U'U)^(-1/2) S (V'V)^(-1/2)    for up = U S

so a set of tasks needs one small matrix C (r, r) beside each matrix's factors. It is made when the set first occurs, in
fp64, and kept. The rows of a batch that keep the same tasks are answered together; a task alone needs no C.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from twin_merging.algebra.gram import gram, inverse_root
from twin_merging.algebra.polar import thin_svd
from twin_merging.model.gates import Mixture, Positions

if TYPE_CHECKING:
    from twin_merging.model.gated import Gated

SETS = 64  # of whose cores a layer keeps; the one that was made first goes first
WEIGHT = "weight"


def evenly(weights: torch.Tensor) -> torch.Tensor:
    """1 / k for each of the k tasks that a row (T) keeps, those of a weight that is not 0."""
    kept = weights.ne(0).to(weights.dtype)
    return kept / kept.sum(-1, keepdim=True).clamp(min=1)


def core_of(down: torch.Tensor, up: torch.Tensor, name: str = "matrix") -> torch.Tensor:
    """C (r, r) in fp64 of factors (r, n) and (m, r) that hold the triples of several tasks. Each task's rows of `down`
    are orthogonal, and its columns of `up`; it makes no difference which of the two the singular values are in."""
    left, right = up.detach().cpu().double(), down.detach().cpu().double().T
    a, b = left.norm(dim=0), right.norm(dim=0)
    return (_root(left / a, name) * (a * b)) @ _root(right / b, name) / a[:, None] / b


def _root(columns: torch.Tensor, name: str) -> torch.Tensor:
    """R (r, r) with A R = P Q', where A (m, r) = P Sigma Q'."""
    found = inverse_root(gram(columns), max(columns.shape), name)
    if found is None:
        _, S, V = thin_svd(columns, name)
        found = (V.T / S) @ V
    return found


def joined_factors(layer: Gated, tasks: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Factors down (r, n) and up C (m, r) of the merge of some tasks of a layer's weight; None where they have none."""
    found = _picked(layer, tasks)
    if found is None:
        return None
    down, up, core = found
    return down, up if core is None else up @ core


def add_joined(layer: Gated, x: torch.Tensor, y: torch.Tensor, mixture: Mixture) -> None:
    """Add each row's merge of the tasks it keeps to its product y (batch, ..., m), in place; x (batch, ..., n)."""
    for rows, (down, up, core) in _merges(layer, mixture):
        hidden = functional.linear(x[rows], down)
        change = functional.linear(hidden if core is None else functional.linear(hidden, core), up)
        if isinstance(rows, slice):
            y[rows] += change
        else:
            y.index_add_(0, rows, change)


def looked_up(layer: Gated, ids: torch.Tensor, y: torch.Tensor, mixture: Mixture, factor: float) -> torch.Tensor:
    """The rows y (batch or 1, length, d) of an embedding's `ids`, and `factor` times each row's merge of what is beside
    them."""
    if y.shape[0] != mixture.rows:
        ids, y = ids.expand(mixture.rows, -1), y.expand(mixture.rows, -1, -1).clone()
    for rows, (down, up, core) in _merges(layer, mixture):
        hidden = functional.embedding(ids[rows], up)
        y[rows] += (hidden if core is None else functional.linear(hidden, core.T)) @ down * factor
    return y


Picked = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]


def _merges(layer: Gated, mixture: Mixture) -> Iterator[tuple[Positions, Picked]]:
    """The rows that keep the same tasks, with what these tasks have of the layer's weight, where they have some."""
    for tasks, rows in mixture.sets:
        found = _picked(layer, tasks)
        if found is not None:
            yield rows, found


def _picked(layer: Gated, tasks: Sequence[int]) -> Picked | None:
    """The factors (r, n) and (m, r) of some tasks side by side, and their core (r, r), None for a task alone."""
    pairs = [pair for pair in (layer.factors_of(task) for task in tasks) if pair is not None]
    if not pairs:
        return None
    if len(pairs) == 1:
        return *pairs[0], None
    down, up = torch.cat([pair[0] for pair in pairs]), torch.cat([pair[1] for pair in pairs], dim=1)
    key = (tuple(tasks), layer.ranks[WEIGHT])
    core = layer.cores.get(key)
    if core is None or (core.dtype, core.device) != (down.dtype, down.device):
        while len(layer.cores) >= SETS:
            layer.cores.pop(next(iter(layer.cores)))
        core = layer.cores[key] = core_of(down, up, type(layer).__name__).to(down)
    return down, up, core
