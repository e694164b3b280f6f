"""What methods that work on whole matrices have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twin_merging.algebra.solvers import check_finite, eigh

if TYPE_CHECKING:
    import torch


def divided(numerator: torch.Tensor, gram: torch.Tensor, name: str) -> torch.Tensor:
    """numerator times the pseudo-inverse of gram, a symmetric positive semi-definite fp64 matrix (n, n).

    Uses a Cholesky factor where gram is far enough from singular, else an eigendecomposition, without eigenvalues up to
    1e-10 of the largest. name: the tensor that an error names.
    """
    import torch

    check_finite(gram, name)
    factor, failed = torch.linalg.cholesky_ex(gram)
    diagonal = factor.diagonal()
    if not failed and diagonal.min() > 1e-6 * diagonal.max():
        return torch.cholesky_solve(numerator.T, factor).T
    values, vectors = eigh(gram, name)
    kept = values.abs() > 1e-10 * values.abs().max()
    vectors, values = vectors[:, kept], values[kept]
    return (numerator @ vectors / values) @ vectors.T


def is_matrix(shape: tuple[int, ...]) -> bool:
    """Whether a parameter is decomposed: it has two dimensions, and both are larger than 1."""
    return len(shape) == 2 and min(shape) > 1


def mean_of(vectors: list[torch.Tensor]) -> torch.Tensor:
    """The mean of tensors; needs memory for one more tensor only."""
    total = vectors[0].clone()
    for vector in vectors[1:]:
        total.add_(vector)
    return total.div_(len(vectors))
