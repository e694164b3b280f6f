"""Leading singular triples of several matrices, made orthogonal to each other (Task Singular Vectors, Iso-CTS).

The triples of a matrix A come from the Gram matrix A^T A of its smaller side (n, n): eigenvectors V and, for the rows
at hand, U = A V / S. So no expert's matrix is held in fp64, and the larger factor U (m, r) is computed block by block,
twice: for its Gram matrix, and for the change itself. What rounding did is checked: each matrix's U must have
orthonormal columns within ORTHONORMAL, and the Gram matrices of U and V must be far enough from singular
(algebra.gram.LIMIT). Where a check fails, an SVD takes the place of the Gram matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from twin_merging.algebra.gram import inverse_root, is_resolved, least_kept, right_vectors, summed_gram
from twin_merging.algebra.polar import EXACT_SIDE, orthogonalised, thin_svd
from twin_merging.merging.blocks import Tall

if TYPE_CHECKING:
    import torch

ORTHONORMAL = 1e-7
Change = Callable[[int, int], "torch.Tensor"]  # rows of a matrix, from start to stop


@dataclass(frozen=True)
class Leading:
    """The leading triples of a matrix A (m, n): S (k,), V (n, k), and U (m, k) where it is held; fp64."""

    S: torch.Tensor
    V: torch.Tensor
    U: torch.Tensor | None = None


@dataclass(frozen=True)
class Part:
    """A matrix whose rows in fp64 the function `rows` gives, and of which at most `rank` triples are kept. `size`: the
    norm that its singular values are zero beside, where that is not its own. known: its triples, where they are known.
    """

    rows: Change
    rank: int
    size: float = 0.0
    known: Leading | None = None


def merged_subspaces(matrix: Tall, rank: int) -> Change | None:
    """Rows from start to stop of U_o S V_o', in fp64, as a function; None if every task's matrix is zero."""
    parts = [Part(_of_task(matrix, task), rank) for task in matrix.tasks]
    return _joined(matrix, parts, lambda S: S)


def common_and_own(matrix: Tall, common: int, own: int, summed: Change) -> Change | None:
    """The same for mean(S) U_o V_o', where U, S and V are the first `common` triples of the sum of the tasks' matrices,
    and the first `own` of each task's, of which the left space of those of the sum has been taken out. The common U
    (m, common) is held in memory. summed: rows of the sum, in fp64."""
    import torch

    shared = _known(matrix, Part(summed, common))
    parts = [Part(summed, common, known=shared)]
    for task in matrix.tasks if own else []:
        rows = _of_task(matrix, task)
        size = float(torch.stack([rows(*part).square().sum() for part in matrix.bounds()]).sum().sqrt())
        parts.append(Part(_without(matrix, rows, shared), own, size))
    return _joined(matrix, parts, lambda S: S.mean().expand(len(S)))


def isotropic(matrix: Tall, rows: Callable[[int, int], torch.Tensor]) -> Change | None:
    """Rows of mean(S) U V', where U S V' is a matrix (m, n) whose rows in fp64 the function `rows` gives; None if that
    matrix is zero. Singular values of zero are left out, of the mean too."""
    import torch

    if matrix.n > EXACT_SIDE:
        S, V = right_vectors(summed_gram((rows(*part) for part in matrix.bounds()), matrix.n), matrix.m, matrix.name)
        if is_resolved(S):
            core = S.mean() * ((V / S) @ V.T)
            return (lambda start, stop: rows(start, stop) @ core) if S.numel() else None
    U, S, V = thin_svd(torch.cat([rows(*part) for part in matrix.bounds()]), matrix.name)
    whole = S.mean() * (U @ V)
    return (lambda start, stop: whole[start:stop]) if S.numel() else None


def _joined(matrix: Tall, parts: Sequence[Part], weighed: Callable[[torch.Tensor], torch.Tensor]) -> Change | None:
    """Rows of U_o f(S) V_o', with the triples of all parts side by side, and f the function `weighed`."""
    import torch

    exact = matrix.n <= EXACT_SIDE
    found = [part.known or (_exact if exact else _leading)(matrix, part) for part in parts]
    S = torch.cat([own.S for own in found])
    if S.numel() == 0:
        return None

    def left(start: int, stop: int) -> torch.Tensor:
        """Rows of U (m, r)."""
        return torch.cat([_left(part, own, start, stop) for part, own in zip(parts, found, strict=True)], 1)

    def left_gram() -> torch.Tensor:
        return summed_gram((left(*bounds) for bounds in matrix.bounds()), len(S))

    root = None
    if not exact:
        gram = left_gram()
        inexact = _inexact(gram, found)
        for place in inexact:
            found[place] = _exact(matrix, parts[place])
        if inexact:
            S, gram = torch.cat([own.S for own in found]), left_gram()
        root = inverse_root(gram, max(matrix.m, len(S)), matrix.name)
        del gram
    right = weighed(S)[:, None] * orthogonalised(torch.cat([own.V for own in found], 1), matrix.name).T
    if root is not None:
        core = root @ right
        return lambda start, stop: left(start, stop) @ core
    whole = orthogonalised(torch.cat([left(*bounds) for bounds in matrix.bounds()]), matrix.name, exact=True)
    return lambda start, stop: whole[start:stop] @ right


def _of_task(matrix: Tall, task: str) -> Change:
    return lambda start, stop: matrix.vectors(start, stop, [task])[0].double()


def _without(matrix: Tall, rows: Change, common: Leading) -> Change:
    """Rows of a matrix whose parts in the common space are taken out: of the side that is the left one in the file."""
    import torch

    if matrix.is_turned:
        return lambda start, stop: (own := rows(start, stop)) - (own @ common.V) @ common.V.T
    U = common.U
    assert U is not None
    inner = torch.zeros(U.shape[1], matrix.n, dtype=torch.float64)
    for start, stop in matrix.bounds():
        inner += U[start:stop].T @ rows(start, stop)
    return lambda start, stop: rows(start, stop) - U[start:stop] @ inner


def _known(matrix: Tall, part: Part) -> Leading:
    """The triples of a part, with U, whose columns are orthonormal."""
    import torch

    found = _exact(matrix, part) if matrix.n <= EXACT_SIDE else _leading(matrix, part)
    if found.U is not None:
        return found
    U = torch.cat([_left(part, found, *bounds) for bounds in matrix.bounds()])
    return _exact(matrix, part) if _inexact(summed_gram([U], len(found.S)), [found]) else Leading(found.S, found.V, U)


def _leading(matrix: Tall, part: Part) -> Leading:
    S, V = right_vectors(summed_gram((part.rows(*own) for own in matrix.bounds()), matrix.n), matrix.m, matrix.name)
    kept = _kept(matrix, part, S)
    return Leading(S[:kept], V[:, :kept].clone())


def _exact(matrix: Tall, part: Part) -> Leading:
    import torch

    whole = torch.cat([part.rows(*own) for own in matrix.bounds()])
    U, S, V = thin_svd(whole, matrix.name, part.rank)
    kept = _kept(matrix, part, S)
    return Leading(S[:kept], V[:kept].T, U[:, :kept])


def _kept(matrix: Tall, part: Part, S: torch.Tensor) -> int:
    return min(part.rank, int((part.size * least_kept(matrix.m) < S).sum()))


def _left(part: Part, own: Leading, start: int, stop: int) -> torch.Tensor:
    if own.U is not None:
        return own.U[start:stop]
    return part.rows(start, stop) @ (own.V / own.S)


def _inexact(gram: torch.Tensor, found: list[Leading]) -> list[int]:
    """The places of the matrices whose columns of U are not orthonormal. gram: of all their columns side by side."""
    places, first = [], 0
    for place, own in enumerate(found):
        block = gram[first : first + len(own.S), first : first + len(own.S)].clone()
        block.diagonal().sub_(1)
        if own.U is None and block.numel() and not float(block.abs().max()) <= ORTHONORMAL:
            places.append(place)
        first += len(own.S)
    return places
