"""Decompositions that whole-matrix methods share, in fp64."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def thin_svd(matrix: torch.Tensor, rank: int | None = None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """U (m, r), S (r,), V (r, n) in fp64, without the triples that are zero up to rounding: a matrix of low rank has
    no others, and what a decomposition returns for them is arbitrary. At most the first `rank` triples."""
    import torch

    U, S, V = torch.linalg.svd(matrix.double(), full_matrices=False)
    nonzero = (
        int((S[0] * max(matrix.shape) * torch.finfo(torch.float32).eps < S).sum()) if S.numel() and S[0] > 0 else 0
    )
    kept = nonzero if rank is None else min(rank, nonzero)
    return U[:, :kept], S[:kept], V[:kept]


def orthogonalised(matrix: torch.Tensor) -> torch.Tensor:
    """P Q' of matrix = P Sigma Q': the nearest matrix with orthonormal columns (or rows), by Procrustes."""
    U, _, V = thin_svd(matrix)
    return U @ V


def divided(numerator: torch.Tensor, gram: torch.Tensor) -> torch.Tensor:
    """numerator gram^+ for a symmetric positive semi-definite gram (n, n), fp64; by Cholesky where gram allows it."""
    import torch

    factor, failed = torch.linalg.cholesky_ex(gram)
    diagonal = factor.diagonal()
    if not failed and diagonal.min() > 1e-6 * diagonal.max():
        return torch.cholesky_solve(numerator.T, factor).T
    return numerator @ torch.linalg.pinv(gram, hermitian=True, rtol=1e-10)


def is_matrix(shape: tuple[int, ...]) -> bool:
    """Whether a parameter is decomposed: two dimensions, neither of size 0 or 1."""
    return len(shape) == 2 and min(shape) > 1


def mean_of(vectors: list[torch.Tensor]) -> torch.Tensor:
    """Mean of tensors, summed in place."""
    total = vectors[0].clone()
    for vector in vectors[1:]:
        total.add_(vector)
    return total.div_(len(vectors))
