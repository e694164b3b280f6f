"""Eigenvalues and singular values in fp64 by LAPACK, with another algorithm where the first one does not converge.

LAPACK's divide-and-conquer routines (gesdd, syevd), which torch calls, fail on some finite matrices. The older QR
iterations (gesvd, syev), which SciPy calls, are slower and converge there. All of them run in one thread: torch's
callers see to it (twin_merging.merging.workers), and SciPy's are told so here.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from twin_merging.errors import UserError

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

Parts = tuple["torch.Tensor", ...]


def eigh(matrix: torch.Tensor, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvalues (n,) in falling order and eigenvectors (n, n), as columns, of a symmetric matrix (n, n), in fp64.

    name: the tensor that an error names. Raises UserError for NaN or infinity, or if no algorithm converges.
    """
    import torch

    def older(whole: torch.Tensor) -> Parts:
        from scipy.linalg import eigh as solve

        return tuple(map(torch.from_numpy, solve(whole.numpy(), driver="ev", check_finite=False)))

    # From the upper triangle it takes a tenth less time than from the lower one, torch's default.
    values, vectors = _solved(matrix, name, lambda whole: torch.linalg.eigh(whole, UPLO="U"), older)
    return values.flip(-1), vectors.flip(-1)


def svd(matrix: torch.Tensor, name: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The thin U (m, k), S (k,) in falling order and V (k, n) of a matrix (m, n), k = min(m, n), in fp64.

    name: the tensor that an error names. Raises UserError for NaN or infinity, or if no algorithm converges.
    """
    import torch

    def older(whole: torch.Tensor) -> Parts:
        from scipy.linalg import svd as solve

        found = solve(whole.numpy(), full_matrices=False, lapack_driver="gesvd", check_finite=False)
        return tuple(map(torch.from_numpy, found))

    U, S, V = _solved(matrix, name, lambda whole: torch.linalg.svd(whole, full_matrices=False), older)
    return U, S, V


def _solved(
    matrix: torch.Tensor, name: str, first: Callable[[torch.Tensor], Parts], older: Callable[[torch.Tensor], Parts]
) -> Parts:
    """What the first of the two algorithms finds that converges."""
    import torch
    from threadpoolctl import threadpool_limits

    matrix = matrix.double()
    check_finite(matrix, name)
    problem: Exception
    try:
        return first(matrix)
    except torch.linalg.LinAlgError as error:
        problem = error
        log.warning("tensor '%s': %s; computed again by QR iteration", name, str(error).splitlines()[0])
    import numpy as np

    try:
        with threadpool_limits(1):
            return older(matrix.contiguous())
    except np.linalg.LinAlgError:
        shape = " x ".join(map(str, matrix.shape))
        raise UserError(
            f"tensor '{name}': no decomposition of its matrix ({shape}) converges ({problem}); leave the tensor's "
            "group out of the merge, or use a method without decompositions"
        ) from None


def check_finite(matrix: torch.Tensor, name: str) -> None:
    """Raise UserError if what is to be decomposed holds NaN or infinity. (A sum tells cheaply that it does not.)"""
    if not math.isfinite(matrix.sum()) and not matrix.isfinite().all():
        raise UserError(
            f"tensor '{name}': what is to be decomposed holds NaN or infinity; look for numbers near the limit of "
            "float32 in the experts, or train or fetch them again"
        )
