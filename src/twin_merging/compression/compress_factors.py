"""Stage compress in factor space: a task's exclusive knowledge is SVD_r(A_t - A*) and SVD_r(B_t - B*), each by itself.

That is what the paper's generative code keeps of an expert that is a LoRA adapter. An exclusive file of this kind holds
the two of every matrix as it was trained under `<name>.lora_A` and `<name>.lora_B`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from twin_merging.compression.decompositions import decompose
from twin_merging.errors import UserError
from twin_merging.io.tensors import save_tensors
from twin_merging.task_vectors.lora_matrices import MergedFactors, whole_factors
from twin_merging.task_vectors.vectors import ExpertVector, TaskVector

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)


def compress_factors(vector: TaskVector | ExpertVector, shared: Path, sizes: Mapping[str, float], output: Path) -> None:
    """Write one task's exclusive file at the largest rank that `sizes` ask for. shared: what rule merge_factors wrote.

    An expert that leaves a matrix alone has zeros there. Raises UserError for NaN or infinity.
    """
    merged = MergedFactors(shared)
    tensors: dict[str, torch.Tensor] = {}
    total = kept = 0.0
    for matrix in merged.matrices:
        own = whole_factors(vector, matrix)
        trained = (None, None) if own is None else (own.down, own.unscaled)
        for name, mean, value in zip(matrix.shapes, merged.of(matrix), trained, strict=True):
            difference = -mean if value is None else value - mean
            if not difference.isfinite().all():
                raise UserError(f"{vector.where}: tensor '{name}' holds NaN or infinity; train or fetch it again")
            found = decompose(difference, sizes)
            if found.norm2 > 0:
                tensors |= {f"{name}.U": found.U, f"{name}.S": found.S, f"{name}.V": found.V}
                tensors[f"{name}.norm2"] = found.S.double().new_tensor([found.norm2])
            total, kept = total + found.norm2, kept + float(found.S.double().square().sum())
    save_tensors(output, tensors)
    stored = sum(tensor.numel() for tensor in tensors.values())
    log.info("%s: %d numbers stored, %.2f %% of the factors' energy", output, stored, 100 * kept / (total or 1))
