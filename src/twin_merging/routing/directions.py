"""The input directions of a layer that a task vector changes most, for the router projection. Computed in fp64."""

from __future__ import annotations

from pathlib import Path

import torch

from twin_merging.algebra.gram import least_kept, right_vectors, summed_gram
from twin_merging.algebra.solvers import svd
from twin_merging.errors import UserError
from twin_merging.task_vectors.vectors import TaskVector

# The matrices that read a layer's input have names that end so. c_attn is stored as (in, out), all others as (out, in).
READERS = ("query", "key", "value", "q_proj", "k_proj", "v_proj", "c_attn")
TRANSPOSED = "c_attn"


def read_directions(path: Path, layer: int, rank: int, size: int) -> torch.Tensor:
    """The input directions that a task vector changes most in one layer: at most `rank` orthonormal rows, fp64.

    They are the top right singular vectors of its query, key and value matrices, stacked. There are none if it changes
    none of these matrices. Of a LoRA expert the products are not formed: with B = Q R, scale * R A has the singular
    values and the right singular vectors of scale * B A.
    """
    vector = TaskVector(path)
    blocks = []
    for name in (name for name in vector.names if reads_input(name, layer)):
        blocks.append(_reading(vector, name))
        if (width := blocks[-1].shape[1]) != size:
            raise UserError(f"{path}: matrix '{name}' reads {width} numbers, features have {size}; run route again")
    rows = sum(map(len, blocks))
    if not rows:
        return torch.zeros(0, size, dtype=torch.float64)
    what = f"{path}, layer {layer}"
    if rows > size:
        return right_vectors(summed_gram(blocks, size), rows, what)[1].T[:rank]
    _, S, V = svd(torch.cat(blocks), what)
    return V[: int((S[:rank] > least_kept(size) * S[0]).sum())]


def _reading(vector: TaskVector, name: str) -> torch.Tensor:
    """Rows (k, d) whose right singular vectors are the input directions of one matrix's change, fp64 for a LoRA."""
    is_transposed = name.removesuffix(".weight").endswith(TRANSPOSED)
    factors = vector.factors(name)
    if factors is None:
        change = vector.tensor(name)
        return change.T if is_transposed else change
    down, up = factors.down.double(), factors.up.double()
    if is_transposed:
        down, up = up.T, down.T
    return torch.linalg.qr(up).R @ down


def reads_input(name: str, layer: int) -> bool:
    """Whether a parameter is a query, key or value matrix of this layer; the first number in a name is the layer's."""
    parts = name.removesuffix(".weight").split(".")
    return parts[-1] in READERS and next((int(part) for part in parts if part.isdigit()), None) == layer
