"""What a model in factor space is assembled from: the shared factors, and an exclusive file cut to its sizes."""

from __future__ import annotations

from collections.abc import Mapping

from twin_merging.compression.exclusives import Exclusive
from twin_merging.errors import UserError
from twin_merging.model.adapters import ExclusiveVector
from twin_merging.model.factor_files import SharedFactors
from twin_merging.task_vectors.lora_matrices import DOWN, UP, MergedFactors


def shared_factors(merged: MergedFactors, linear: Mapping[str, bool]) -> dict[str, SharedFactors]:
    """A* and B* by the body's parameter, of matrices that were one by their parts. linear: of the body's parameters,
    whether each is the matrix of a linear layer."""
    found = {}
    for matrix in merged.matrices:
        down, up = merged.of(matrix)
        for part in matrix.parts:
            if not linear.get(part, False):
                raise UserError(
                    f"lora_space: factor: the adapters change '{part}', which is no matrix of a linear layer; use "
                    "lora_space: product"
                )
            own = matrix.of_part(down, up, part)
            found[part] = SharedFactors(own.down, own.unscaled, own.scale)
    return found


def cut_factors(exclusive: Exclusive, merged: MergedFactors) -> tuple[ExclusiveVector, int]:
    """An exclusive file of factor space at its sizes, by the body's parameters; and how many numbers it stores."""
    vector, numbers = ExclusiveVector(), 0
    for matrix in merged.matrices:
        for name in exclusive.matrices:
            if name not in matrix.shapes:
                continue
            found, first = exclusive.matrix(name), 0
            numbers += found.U.numel() + found.V.numel()
            for part, rows in matrix.parts.items() if found.S.numel() else ():
                up = found.U * found.S
                own = up if name.endswith(DOWN) else up[first : first + rows]
                vector.factors[part + (DOWN if name.endswith(DOWN) else UP)] = (found.V, own.contiguous())
                first += rows
    return vector, numbers
