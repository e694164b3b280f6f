"""Decompositions in fp64, for the methods that work on whole matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def thin_svd(matrix: torch.Tensor, rank: int | None = None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """U (m, r), S (r,) and V (r, n) in fp64: the singular triples that are not zero, at most the first `rank` ones.

    A triple counts as zero if its singular value is zero up to rounding. A decomposition returns arbitrary vectors for
    such triples, so they are left out.
    """
    import torch

    U, S, V = torch.linalg.svd(matrix.double(), full_matrices=False)
    nonzero = (
        int((S[0] * max(matrix.shape) * torch.finfo(torch.float32).eps < S).sum()) if S.numel() and S[0] > 0 else 0
    )
    kept = nonzero if rank is None else min(rank, nonzero)
    return U[:, :kept], S[:kept], V[:kept]


def orthogonalised(matrix: torch.Tensor) -> torch.Tensor:
    """The nearest matrix with orthonormal columns (or rows): P Q' of matrix = P Sigma Q' (Procrustes)."""
    U, _, V = thin_svd(matrix)
    return U @ V


def divided(numerator: torch.Tensor, gram: torch.Tensor) -> torch.Tensor:
    """numerator times the pseudo-inverse of gram, a symmetric positive semi-definite fp64 matrix (n, n).

    Uses a Cholesky factor where gram is far enough from singular, else an eigendecomposition.
    """
    import torch

    factor, failed = torch.linalg.cholesky_ex(gram)
    diagonal = factor.diagonal()
    if not failed and diagonal.min() > 1e-6 * diagonal.max():
        return torch.cholesky_solve(numerator.T, factor).T
    return numerator @ torch.linalg.pinv(gram, hermitian=True, rtol=1e-10)


def is_matrix(shape: tuple[int, ...]) -> bool:
    """Whether a parameter is decomposed: it has two dimensions, and both are larger than 1."""
    return len(shape) == 2 and min(shape) > 1


def mean_of(vectors: list[torch.Tensor]) -> torch.Tensor:
    """The mean of tensors; needs memory for one more tensor only."""
    total = vectors[0].clone()
    for vector in vectors[1:]:
        total.add_(vector)
    return total.div_(len(vectors))
