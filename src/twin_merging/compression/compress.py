"""Stage compress: computes a task's exclusive knowledge v_t = SVD_r(theta_t - theta_s), matrix by matrix.

It is what expert t has and the shared expert has not, cut to rank r (arXiv 2406.15479, section 3.2). If every expert
changes a matrix by LoRA, and the shared expert is a linear sum of the experts, then the difference is
B_t A_t - sum_s c_s B_s A_s. It is decomposed from these factors, and neither the base nor the shared expert is read. A
difference that is zero is not stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from twin_merging.checkpoints.adapters import Factors
from twin_merging.checkpoints.groups import Protocol, merged_names
from twin_merging.compression.decompositions import decompose, decompose_sum, squared_norm
from twin_merging.compression.exclusives import DENSITY, Kept
from twin_merging.compression.sparse import largest_entries
from twin_merging.errors import UserError
from twin_merging.io.ranges import chunks
from twin_merging.io.tensors import Checkpoint
from twin_merging.io.weights import open_directory
from twin_merging.task_vectors.vectors import ExpertVector, TaskVector

if TYPE_CHECKING:
    import torch

Vector = TaskVector | ExpertVector
_ROWS = 2**24  # numbers of a parameter that are read at once


def compress(
    *,
    task: str,
    base: Path,
    task_vectors: Mapping[str, Path],
    shared: Path,
    sizes: Mapping[str, float],
    protocol: Protocol,
    output: Path,
    coefficients: Mapping[str, float] | None = None,
) -> None:
    """Write one task's exclusive file, from the files of the stages before.

    base, shared: model directories. task_vectors: a file by task; those of other tasks are needed only if
    `coefficients` are given. The other arguments are those of `compress_vector`.
    """
    vectors = {name: TaskVector(path) for name, path in sorted(task_vectors.items())}
    compress_vector(
        task=task,
        base=open_directory(base),
        vectors=vectors,
        shared=open_directory(shared),
        sizes=sizes,
        protocol=protocol,
        output=output,
        coefficients=coefficients,
    )


def compress_vector(
    *,
    task: str,
    base: Checkpoint,
    vectors: Mapping[str, Vector],
    shared: Checkpoint,
    sizes: Mapping[str, float],
    protocol: Protocol,
    output: Path,
    coefficients: Mapping[str, float] | None = None,
) -> None:
    """Write one task's exclusive file, at the largest rank that `sizes` (rank, fraction, energy) ask for, and with the
    largest entries of each row that they ask for by `density`.

    vectors: by task; those of other tasks are needed only if `coefficients` are given.
    coefficients: the c_t of a shared expert that is theta_0 + sum_t c_t tau_t; None if it is not such a sum.
    Only groups that the protocol merges are compressed. The parameters of the other groups are private, or the base's.
    """
    kept = Kept()
    ranks = {size: value for size, value in sizes.items() if size != DENSITY}
    for name in merged_names(base, protocol):
        terms = _terms(task, vectors, coefficients, name) if coefficients is not None else None
        if DENSITY in sizes and len(base.shape(name)) == 2:
            difference = _difference(name, base, vectors[task], shared)
            kept.sparse(name, largest_entries(difference, sizes[DENSITY], squared_norm(difference)))
            if not ranks:
                continue
        if terms is None:
            difference = _difference(name, base, vectors[task], shared)
            if difference.dim() != 2:
                kept.vector(name, difference)
                continue
            found = decompose(difference, ranks, name)
        elif not terms:
            continue
        else:
            found = decompose_sum(terms, ranks, name)
        kept.matrix(name, found)
    kept.save(output, "matrices'")


def _difference(name: str, base: Checkpoint, vector: Vector, merged: Checkpoint) -> torch.Tensor:
    """theta_t - theta_s of one parameter, in fp32. Beside it, memory holds only some rows at a time."""
    import torch

    shape = base.shape(name)
    difference = torch.empty(shape, dtype=torch.float32)
    for start, stop in chunks(shape, _ROWS):
        value = base.rows(name, start, stop).float()
        change = (value + vector.rows(name, start, stop, value)).sub_(merged.rows(name, start, stop).float())
        _check_finite(change, vector, name)
        (difference[start:stop] if len(shape) > 1 else difference).copy_(change)
    return difference


def _terms(
    task: str, vectors: Mapping[str, Vector], coefficients: Mapping[str, float], name: str
) -> list[tuple[float, Factors]] | None:
    """The terms (weight, factors of B A) whose sum is theta_t - theta_s for one parameter.

    An expert that does not change the parameter has no term. None if some expert changes it in another way than by
    LoRA.
    """
    terms = []
    for other, vector in vectors.items():
        if not vector.changes(name):
            continue
        factors = vector.factors(name)
        if factors is None:
            return None
        for part in (factors.down, factors.up):
            _check_finite(part, vector, name)
        terms.append((float(other == task) - coefficients[other], factors))
    return terms


def _check_finite(tensor: torch.Tensor, vector: Vector, name: str) -> None:
    if not tensor.isfinite().all():
        raise UserError(f"{vector.where}: tensor '{name}' holds NaN or infinity; extract the task vector again")
