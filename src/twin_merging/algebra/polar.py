"""Singular triples and polar factors of whole matrices, in fp64."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twin_merging.algebra.gram import gram, inverse_root, least_kept
from twin_merging.algebra.solvers import svd

if TYPE_CHECKING:
    import torch

# Up to this smaller side a matrix is decomposed as it is. Gram matrices are not worth their rounding there.
EXACT_SIDE = 128


def thin_svd(matrix: torch.Tensor, name: str, rank: int | None = None) -> tuple[torch.Tensor, ...]:
    """U (m, r), S (r,) and V (r, n) in fp64: the singular triples that are not zero, at most the first `rank` ones.

    A triple counts as zero if its singular value is zero up to rounding. A decomposition returns arbitrary vectors for
    such triples, so they are left out.
    """
    U, S, V = svd(matrix, name)
    nonzero = int((S[0] * least_kept(max(matrix.shape)) < S).sum()) if S.numel() and S[0] > 0 else 0
    kept = nonzero if rank is None else min(rank, nonzero)
    return U[:, :kept], S[:kept], V[:kept]


def orthogonalised(matrix: torch.Tensor, name: str, exact: bool = False) -> torch.Tensor:
    """The nearest matrix with orthonormal columns (or rows): P Q' of matrix = P Sigma Q' (Procrustes), in fp64.

    exact: by an SVD in every case.
    """
    if matrix.shape[0] < matrix.shape[1]:
        return orthogonalised(matrix.T, name, exact).T
    matrix = matrix.double()
    if matrix.shape[1] > EXACT_SIDE and not exact:
        root = inverse_root(gram(matrix), max(matrix.shape), name)
        if root is not None:
            return matrix @ root
    U, _, V = thin_svd(matrix, name)
    return U @ V
