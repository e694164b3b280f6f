"""Truncated singular value decompositions: of a dense matrix (exact or randomised), and of a sum of low-rank products.

For a dense matrix A, V holds eigenvectors of the Gram matrix of A's smaller side, and U S = A V. So a cut is exactly
A V V^T, the best approximation whose rows lie in the span of V. Singular vectors have a fixed sign: in each column of
U, the entry of largest magnitude is positive. Triples that fp32 cannot tell from zero beside the largest are left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from twin_merging.algebra.gram import gram as gram_of
from twin_merging.algebra.gram import summed_gram
from twin_merging.algebra.solvers import check_finite, eigh, svd
from twin_merging.checkpoints.adapters import Factors
from twin_merging.compression.exclusives import Decomposition, rank_for_energy, rank_of
from twin_merging.errors import UserError

if TYPE_CHECKING:
    import torch

# The exact way is taken if the smaller side is at most EXACT_SIDE, or if the rank is above EXACT_SHARE of that side.
# The randomised way is no faster there.
EXACT_SIDE = 128
EXACT_SHARE = 0.25
# The squared error may exceed the best cut's by twice this share. The error is then at most 0.1 % above the least.
TOLERANCE = 1e-3
# If the subspace is wider than 1 / GRAM_SHARE of the smaller side, products with the Gram matrix cost less than with A.
GRAM_SHARE = 10
_ROUNDED = 1e-3  # below this squared error, fp32 Gram matrices and "whole minus kept" are too inexact
_PIECE = 2**22  # numbers that are held in fp64 at once
_NEGLIGIBLE = 1e-12  # a share of the squared norm that fp32 numbers cannot tell from zero
_AMPLIFICATION = 1e4  # how much one filter may favour the first direction over the last; fp32 resolves far more
_DEGREE = 3
_EXPONENT = 40  # of 2: numbers whose largest one is above or below are scaled, so that their squares fit fp32
_FILTERS = 10


def decompose(matrix: torch.Tensor, sizes: Mapping[str, float], name: str = "matrix") -> Decomposition:
    """Truncated SVD of an fp32 matrix (m, n), at the largest rank that `sizes` ask for. A zero matrix gets rank 0.

    The Frobenius error is at most 0.1 % above the least error that this rank allows, or below 1e-6 of the matrix's
    norm. name: the tensor that an error names. Raises UserError for NaN or infinity.
    """
    check_finite(matrix, name)
    exponent = math.frexp(float(matrix.abs().max()) if matrix.numel() else 0.0)[1]
    if abs(exponent) > _EXPONENT:
        return _scaled(decompose(_times(matrix, -exponent), sizes, name), exponent, name)
    norm2 = squared_norm(matrix)
    (m, n), least = matrix.shape, min(matrix.shape)
    rank = rank_of(m, n, sizes)
    if norm2 == 0 or rank == 0:
        return Decomposition(matrix.new_zeros(m, 0), matrix.new_zeros(0), matrix.new_zeros(0, n), norm2)
    if least <= EXACT_SIDE or rank > EXACT_SHARE * least:
        return exact_svd(matrix, sizes, norm2, name)
    return randomised_svd(matrix, rank, norm2, name) or exact_svd(matrix, sizes, norm2, name)


def _scaled(found: Decomposition, exponent: int, name: str) -> Decomposition:
    """The decomposition of a matrix that is 2 ** exponent times the decomposed one. Raises UserError where a singular
    value does not fit float32."""
    S = _times(found.S, exponent)
    if not S.isfinite().all():
        raise UserError(f"tensor '{name}': its largest singular value is above float32's range; scale the expert down")
    return Decomposition(found.U, S, found.V, math.ldexp(found.norm2, 2 * exponent))


def _times(tensor: torch.Tensor, exponent: int) -> torch.Tensor:
    """An fp32 tensor times 2 ** exponent, in two steps, because the power itself may be out of fp32's range."""
    half = exponent // 2
    return tensor * 2.0**half * 2.0 ** (exponent - half)


def squared_norm(matrix: torch.Tensor) -> float:
    """Squared Frobenius norm, summed in fp64."""
    return math.fsum(float(rows.double().square().sum()) for rows in _pieces(matrix))


def exact_svd(matrix: torch.Tensor, sizes: Mapping[str, float], norm2: float, name: str = "matrix") -> Decomposition:
    """SVD by the eigendecomposition of the smaller side's Gram matrix, in fp64.

    This resolves singular values down to about 1e-8 of the largest, which is finer than fp32 does.
    """
    import torch

    if matrix.shape[0] < matrix.shape[1]:
        return _transposed(exact_svd(matrix.T, sizes, norm2, name))
    values, V = eigh(summed_gram(_pieces(matrix), matrix.shape[1]), name)
    V = V[:, : rank_within(values.clamp(min=0).sqrt(), tuple(matrix.shape), sizes, norm2)]
    US = torch.cat([(rows.double() @ V).float() for rows in _pieces(matrix)])
    return _triples(US, V, norm2)


def rank_within(values: torch.Tensor, shape: tuple[int, ...], sizes: Mapping[str, float], norm2: float) -> int:
    """How many of a matrix's singular `values` the largest of `sizes` asks for."""
    m, n = shape
    if "energy" not in sizes:
        return rank_of(m, n, sizes)
    asked = {size: value for size, value in sizes.items() if size != "energy"}
    rank = rank_for_energy(values, norm2, sizes["energy"])
    return max(rank, rank_of(m, n, asked)) if asked else rank


def randomised_svd(matrix: torch.Tensor, rank: int, norm2: float, name: str = "matrix") -> Decomposition | None:
    """SVD from a random subspace of the smaller side, which is filtered until the check says that little can be gained.

    It is a range finder (Halko, Martinsson and Tropp, arXiv 0909.4061). Its power iterations are Chebyshev polynomials
    of A^T A that are small on the unwanted part of the spectrum (Zhou, Saad, Tiago and Chelikowsky, J. Comput. Phys.
    219, 2006), so that even a flat spectrum takes few products. The check looks at the residuals of the Ritz pairs.
    Returns None if it still fails after many filters. The subspace is seeded: the same matrix gives the same result.
    """
    import torch

    if matrix.shape[0] < matrix.shape[1]:
        found = randomised_svd(matrix.T, rank, norm2, name)
        return None if found is None else _transposed(found)
    norm, side = math.sqrt(norm2), matrix.shape[1]
    width = min(side, rank + max(16, rank // 2))
    gram = gram_of(matrix).div_(norm2) if width * GRAM_SHARE > side else None

    def image(X: torch.Tensor) -> torch.Tensor:
        """A^T A X, with A of norm 1."""
        return gram @ X if gram is not None else matrix.T @ (matrix @ X / norm) / norm

    X = torch.randn(side, width, generator=torch.Generator().manual_seed(0))
    X = torch.linalg.qr(image(X)).Q
    for _ in range(_FILTERS):
        X, AX, values = _ritz_pairs(matrix, norm, gram, X, name)
        error = 1 - float(values[:rank].sum())
        if error < _ROUNDED:
            if gram is not None:
                gram = None
                X, AX, values = _ritz_pairs(matrix, norm, None, X, name)
            error = float(values[rank:].sum()) + squared_norm(torch.addmm(matrix, matrix @ X, X.T, alpha=-1)) / norm2
        if error <= _NEGLIGIBLE or _possible_gain(X, AX, values, rank) <= TOLERANCE * error:
            return _triples(matrix @ X[:, :rank], X[:, :rank], norm2)
        X = torch.linalg.qr(_filtered(image, X, AX, values)).Q
    return None


def _ritz_pairs(
    matrix: torch.Tensor, norm: float, gram: torch.Tensor | None, X: torch.Tensor, name: str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rotate X (n, k) so that X^T A^T A X is diagonal, with A = matrix / norm; the Ritz pairs of A^T A.

    Returns the rotated X, A^T A X, and the diagonal in falling order. With `gram` (A^T A in fp32), values below 1e-7 of
    the largest are only rounding; without it, values below the square of that are.
    """

    if gram is not None:
        AX = gram @ X
        values, W = eigh(X.double().T @ AX.double(), name)
        return X @ W.float(), AX @ W.float(), values.clamp(min=0)
    Y = matrix @ X / norm
    values, W = eigh(Y.double().T @ Y.double(), name)
    return X @ W.float(), matrix.T @ (Y @ W.float()) / norm, values.clamp(min=0)


def _possible_gain(X: torch.Tensor, AX: torch.Tensor, values: torch.Tensor, rank: int) -> float:
    """How much energy the cut would gain at convergence, to second order: sum of |A^T A x - l x|^2 / (l - rest)."""
    kept = values[:rank]
    residuals = (AX - X * values.float())[:, :rank].double().square().sum(0)
    return float((residuals / (kept - values[-1]).clamp(min=1e-3 * float(kept[-1]) + 1e-300)).sum())


def _filtered(
    image: Callable[[torch.Tensor], torch.Tensor], X: torch.Tensor, AX: torch.Tensor, values: torch.Tensor
) -> torch.Tensor:
    """T_d(2 A^T A / a - 1) X, where a is the least Ritz value and T_d the Chebyshev polynomial of degree d."""
    a = max(float(values[-1]), 1e-12 * float(values[0]))
    growth = math.acosh(max(2 * float(values[0]) / a - 1, 1 + 1e-9))
    degree = max(1, min(_DEGREE, int(math.log(_AMPLIFICATION) / growth)))
    before, last = X, (2 / a) * AX - X
    for _ in range(degree - 1):
        before, last = last, (4 / a) * image(last) - 2 * last - before
    return last


def decompose_sum(
    terms: Sequence[tuple[float, Factors]], sizes: Mapping[str, float], name: str = "matrix"
) -> Decomposition:
    """Truncated SVD of the sum of weight * B A, with B (m, r) and A (r, n), without computing the (m, n) matrix.

    It takes a thin QR of all B side by side and one of all A stacked, and then the SVD of the small core between them,
    all in fp64. This is exact up to rounding. A sum whose norm is below 1e-13 of that of its terms counts as zero.
    """
    import torch

    up = torch.cat([weight * factors.up.double() for weight, factors in terms], dim=1)
    down = torch.cat([factors.down.double() for _, factors in terms])
    left, upper = torch.linalg.qr(up)
    right, lower = torch.linalg.qr(down.T)
    U, S, V = svd(upper @ lower.T, name)
    norm2 = float(S.square().sum())
    if norm2 <= (1e-13 * float(up.norm() * down.norm())) ** 2:
        U, S, V, norm2 = U[:, :0], S[:0], V[:0], 0.0
    rank = rank_within(S, (up.shape[0], down.shape[1]), sizes, norm2)
    return _triples(left @ (U[:, :rank] * S[:rank]), right @ V[:rank].T, norm2)


def _triples(US: torch.Tensor, V: torch.Tensor, norm2: float) -> Decomposition:
    """U, S and V from U S (m, r) and V (n, r): with fixed signs, and without triples that fp32 does not resolve."""
    import torch

    S = US.double().square().sum(0).sqrt()
    kept = S[:1] * torch.finfo(torch.float32).eps < S
    U, S, V = (US[:, kept] / S[kept]).float(), S[kept].float(), V[:, kept].float()
    return _with_signs(Decomposition(U, S, V.T, norm2))


def _transposed(found: Decomposition) -> Decomposition:
    return _with_signs(Decomposition(found.V.T, found.S, found.U.T, found.norm2))


def _with_signs(found: Decomposition) -> Decomposition:
    import torch

    if found.S.numel() == 0:
        return found
    largest = found.U.gather(0, found.U.abs().argmax(0, keepdim=True))[0]
    signs = torch.where(largest < 0, -1.0, 1.0)
    return Decomposition(found.U * signs, found.S, found.V * signs[:, None], found.norm2)


def _pieces(matrix: torch.Tensor) -> Sequence[torch.Tensor]:
    """A matrix cut into ranges of rows."""
    return matrix.split(max(1, _PIECE // max(1, matrix.shape[1])))
