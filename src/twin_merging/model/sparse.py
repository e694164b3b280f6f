"""Sparse exclusive vectors in a layer.

Each task's matrix is made when rows need it. So a batch costs, beside the shared model's pass, one product with a whole
matrix where each row has one task; where rows mix tasks, one for each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from twin_merging.compression.sparse import Entries, dense, narrow
from twin_merging.model.gates import Mixture
from twin_merging.model.sparse_files import COLUMNS, VALUES

if TYPE_CHECKING:
    from twin_merging.model.gated import Gated


def stacked(entries: Sequence[Entries | None], shared: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Columns and values (T, m, k) of all tasks' entries of a parameter; zeros of a task that has none."""
    count = max(one.values.shape[1] for one in entries if one is not None)
    columns = torch.zeros(len(entries), shared.shape[0], count, dtype=torch.int32)
    values = torch.zeros(len(entries), shared.shape[0], count, dtype=shared.dtype)
    for task, one in enumerate(entries):
        if one is not None:
            width = one.values.shape[1]
            columns[task, :, :width], values[task, :, :width] = one.columns.int(), one.values.to(shared.dtype)
    return columns, values


def entries_of(layer: Gated, task: int) -> Entries | None:
    """One task's entries of a layer's weight."""
    columns, values = layer.part("weight", COLUMNS), layer.part("weight", VALUES)
    return None if columns is None or values is None else Entries(columns[task], values[task])


def narrowed(entries: Entries, width: int) -> Entries:
    """Entries as they lie in a file, of a matrix of so many columns."""
    return Entries(entries.columns.cpu().to(narrow(width)), entries.values.cpu())


def sparse_change(layer: Any, task: int) -> torch.Tensor:
    """What one task adds to a layer's weight, as that is stored."""
    columns, values = layer.part("weight", COLUMNS)[task], layer.part("weight", VALUES)[task]
    return dense(columns, values, layer.weight.shape)


def add_sparse(layer: Any, x: torch.Tensor, y: torch.Tensor, mixture: Mixture) -> None:
    """Add every row's mixture of sparse vectors to its product y (batch, ..., m), in place; x (batch, ..., n)."""
    for task, rows, gate in mixture.parts:
        change = functional.linear(x[rows], layer.matrix(sparse_change(layer, task)))
        change = change if gate is None else change * _along(gate, change)
        if isinstance(rows, slice):
            y[rows] += change
        else:
            y.index_add_(0, rows, change)


def add_looked_up(layer: Any, ids: torch.Tensor, y: torch.Tensor, mixture: Mixture) -> torch.Tensor:
    """The rows y (batch or 1, length, d) of an embedding's `ids`, and each row's mixture of what is beside them."""
    if y.shape[0] != mixture.rows:
        ids, y = ids.expand(mixture.rows, -1), y.expand(mixture.rows, -1, -1).clone()
    for task, rows, gate in mixture.parts:
        own = ids[rows]
        columns, values = (layer.part("weight", part)[task][own] for part in (COLUMNS, VALUES))
        values = values * layer.factor if gate is None else values * layer.factor * _along(gate, values)
        y[rows] += torch.zeros_like(y[rows]).scatter_add_(-1, columns.long(), values)
    return y


def _along(gate: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return gate.to(like.dtype).reshape(-1, *[1] * (like.dim() - 1))
