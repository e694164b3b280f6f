"""Stage compress: exclusive knowledge v_t = SVD_r(theta_t - theta_s), per matrix, against the shared expert.

(arXiv 2406.15479, section 3.2.) Singular vectors have a fixed sign: the entry of largest magnitude in each column of U
is positive.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from twin_merging.checkpoints import open_directory, save_tensors
from twin_merging.errors import UserError
from twin_merging.exclusives import Decomposition, rank_for_energy, rank_of
from twin_merging.parameters import Protocol
from twin_merging.task_vectors import TaskVector

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

# Up to this smaller side the exact decomposition is used: it is fast enough there.
EXACT_SIDE = 1024


def compress(
    base: Path, task_vector: Path, shared: Path, sizes: Mapping[str, float], protocol: Protocol, output: Path
) -> None:
    """Write one task's exclusive file at the largest rank that `sizes` (rank, fraction, energy) ask for.

    base, shared: model directories; task_vector: a file. Only groups that the protocol merges are compressed: the
    others are private, or the base's.
    """
    start, merged, vector = open_directory(base), open_directory(shared), TaskVector(task_vector)
    tensors: dict[str, torch.Tensor] = {}
    total = kept = 0.0
    for name in start:
        value = start[name]
        if not (value.is_floating_point() and protocol.merges(name)):
            continue
        difference = (value.float() + vector.change(name, value)) - merged[name].float()
        if not difference.isfinite().all():
            raise UserError(f"{task_vector}: tensor '{name}' holds NaN or infinity; extract the task vector again")
        if difference.dim() != 2:
            tensors[name] = difference
            continue
        found = decompose(difference, sizes)
        tensors |= {f"{name}.U": found.U, f"{name}.S": found.S, f"{name}.V": found.V}
        tensors[f"{name}.norm2"] = difference.double().square().sum().reshape(1)
        total, kept = total + found.norm2, kept + float(found.S.double().square().sum())
    save_tensors(output, tensors)
    stored = sum(tensor.numel() for tensor in tensors.values())
    log.info("%s: %d numbers stored, %.2f %% of the matrices' energy", output, stored, 100 * kept / (total or 1))


def decompose(matrix: torch.Tensor, sizes: Mapping[str, float]) -> Decomposition:
    """Truncated SVD of an fp32 matrix: exact where its smaller side is small or much is wanted, else randomised."""

    norm2 = float(matrix.double().square().sum())
    (m, n), least = matrix.shape, min(matrix.shape)
    rank = rank_of(m, n, sizes)
    if norm2 == 0:
        found = Decomposition(matrix.new_zeros(m, rank), matrix.new_zeros(rank), matrix.new_zeros(rank, n), 0.0)
    elif least <= EXACT_SIDE or 4 * rank > least:
        found = exact_svd(matrix, norm2)
    else:
        found = randomised_svd(matrix, rank, norm2)
    if "energy" in sizes:
        asked = {size: value for size, value in sizes.items() if size != "energy"}
        rank = rank_for_energy(found.S, norm2, sizes["energy"])
        rank = max(rank, rank_of(m, n, asked)) if asked else rank
    return _with_signs(found.cut(rank))


def exact_svd(matrix: torch.Tensor, norm2: float) -> Decomposition:
    """Thin SVD of a matrix of squared norm norm2."""
    import torch

    U, S, V = torch.linalg.svd(matrix, full_matrices=False)
    return Decomposition(U, S, V, norm2)


def randomised_svd(matrix: torch.Tensor, rank: int, norm2: float, tolerance: float = 1e-3) -> Decomposition:
    """Halko, Martinsson and Tropp's range finder (arXiv 0909.4061, algorithms 4.4 and 5.1), with a check.

    Doubles the oversampling until one more power iteration lowers the residual of the rank-r cut by less than
    `tolerance` of itself; exact when that takes half of the matrix. Seeded: same matrix, same result.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    oversampling = max(10, rank // 4)
    while 2 * (rank + oversampling) < min(matrix.shape):
        sketch = torch.randn(matrix.shape[1], rank + oversampling, generator=generator)
        basis = torch.linalg.qr(matrix @ sketch).Q
        residual = norm2
        for _ in range(4):
            before = residual
            basis = torch.linalg.qr(matrix @ torch.linalg.qr(matrix.T @ basis).Q).Q
            inner = exact_svd(basis.T @ matrix, norm2)
            residual = norm2 - float(inner.S[:rank].double().square().sum())
            if before - residual <= tolerance * max(residual, 0.0) + 1e-7 * norm2:
                return Decomposition(basis @ inner.U, inner.S, inner.V, norm2)
        oversampling *= 2
    return exact_svd(matrix, norm2)


def _with_signs(found: Decomposition) -> Decomposition:
    import torch

    if found.S.numel() == 0:
        return found
    rows = found.U.abs().argmax(0)
    signs = torch.sign(found.U.gather(0, rows[None])[0])
    signs[signs == 0] = 1
    return Decomposition(found.U * signs, found.S, found.V * signs[:, None], found.norm2)
