"""Stage compress in factor space: a task's exclusive knowledge is SVD_r(A_t - A*) and SVD_r(B_t - B*), each by itself.

That is what the paper's generative code keeps of an expert that is a LoRA adapter. An exclusive file of this kind holds
the two of every matrix as it was trained under `<name>.lora_A` and `<name>.lora_B`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from twin_merging.compression.decompositions import decompose
from twin_merging.compression.exclusives import Kept
from twin_merging.errors import UserError
from twin_merging.task_vectors.lora_matrices import MergedFactors, whole_factors
from twin_merging.task_vectors.vectors import ExpertVector, TaskVector


def compress_factors(vector: TaskVector | ExpertVector, shared: Path, sizes: Mapping[str, float], output: Path) -> None:
    """Write one task's exclusive file at the largest rank that `sizes` ask for. shared: what rule merge_factors wrote.

    An expert that leaves a matrix alone has zeros there. Raises UserError for NaN or infinity.
    """
    merged = MergedFactors(shared)
    kept = Kept()
    for matrix in merged.matrices:
        own = whole_factors(vector, matrix)
        trained = (None, None) if own is None else (own.down, own.unscaled)
        for name, mean, value in zip(matrix.shapes, merged.of(matrix), trained, strict=True):
            difference = -mean if value is None else value - mean
            if not difference.isfinite().all():
                raise UserError(f"{vector.where}: tensor '{name}' holds NaN or infinity; train or fetch it again")
            kept.matrix(name, decompose(difference, sizes, name))
    kept.save(output, "factors'")
