"""Gram matrices A^T A, and what their eigenvalues say of a matrix A, in fp64.

Squaring costs half of the digits: singular values are known to about 1e-8 of the largest. The matrices are fp32, whose
own rounding is 6e-8, so that nothing is lost that was there; whoever divides by small ones checks what is left.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from twin_merging.algebra.solvers import eigh

if TYPE_CHECKING:
    import torch

_BLOCK = 256
# An inverse root is refused where rounding could change some direction of it by more than this.
LIMIT = 1e-7


def gram(matrix: torch.Tensor) -> torch.Tensor:
    """A^T A of a matrix (m, n), in its dtype. Only the blocks above the diagonal are computed; the rest is mirrored."""
    n = matrix.shape[1]
    found = matrix.new_empty(n, n)
    for first in range(0, n, _BLOCK):
        last = min(n, first + _BLOCK)
        found[first:last, first:] = matrix[:, first:last].T @ matrix[:, first:]
        found[last:, first:last] = found[first:last, last:].T
    return found


def summed_gram(blocks: Iterable[torch.Tensor], n: int) -> torch.Tensor:
    """A^T A in fp64 of a matrix that is given by blocks of its rows, each (b, n)."""
    import torch

    total = torch.zeros(n, n, dtype=torch.float64)
    for block in blocks:
        total += gram(block.double())
    return total


def least_kept(longest: int) -> float:
    """Singular values up to this share of the largest one count as zero, in a matrix whose longest side is so long."""
    import torch

    return longest * torch.finfo(torch.float32).eps


def right_vectors(gram: torch.Tensor, longest: int, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Singular values (k,) in falling order and right singular vectors (n, k) of A (., n), from its Gram matrix.

    Those whose singular value is zero up to rounding are left out. longest: A's longest side.
    """
    values, V = eigh(gram, name)
    S = values.clamp(min=0).sqrt()
    kept = int((S[0] * least_kept(longest) < S).sum()) if S.numel() and S[0] > 0 else 0
    return S[:kept], V[:, :kept]


def is_resolved(S: torch.Tensor) -> bool:
    """Whether rounding turns no direction of A V / S by more than LIMIT, where S (k,) and V come from a Gram matrix.

    The rounding of a Gram matrix is amplified by its largest eigenvalue over its least one that is kept.
    """
    import torch

    return not S.numel() or torch.finfo(torch.float64).eps * float(S[0] / S[-1]) ** 2 <= LIMIT


def inverse_root(gram: torch.Tensor, longest: int, name: str) -> torch.Tensor | None:
    """R (n, n) in fp64 with A R = P Q', where A = P Sigma Q': the polar factor of A. Zero singular values are left out.

    None where the singular values are not resolved (`is_resolved`).
    """
    S, V = right_vectors(gram, longest, name)
    return (V / S) @ V.T if is_resolved(S) else None
