"""Leading singular triples of every task's matrix, made orthogonal to each other (Task Singular Vectors).

A task's triples come from the Gram matrix A^T A of its smaller side (n, n): eigenvectors V and, for the rows at hand,
U = A V / S. So no expert's matrix is held in fp64, and the larger factor U (m, r) is computed block by block, twice:
for its Gram matrix, and for the change itself. What rounding did is checked: each task's U must have orthonormal
columns within ORTHONORMAL, and the Gram matrices of U and V must be far enough from singular (algebra.gram.LIMIT).
Where a check fails, an SVD takes the place of the Gram matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from twin_merging.algebra.gram import inverse_root, is_resolved, right_vectors, summed_gram
from twin_merging.algebra.polar import EXACT_SIDE, orthogonalised, thin_svd
from twin_merging.merging.blocks import Tall

if TYPE_CHECKING:
    import torch

ORTHONORMAL = 1e-7
Change = Callable[[int, int], "torch.Tensor"]


@dataclass(frozen=True)
class Leading:
    """The leading triples of one task's matrix A (m, n): S (k,), V (n, k), and U (m, k) where it is held; fp64."""

    S: torch.Tensor
    V: torch.Tensor
    U: torch.Tensor | None = None


def merged_subspaces(matrix: Tall, rank: int) -> Change | None:
    """Rows from start to stop of U_o S V_o', in fp64, as a function; None if every task's matrix is zero."""
    import torch

    exact = matrix.n <= EXACT_SIDE
    found = [_exact(matrix, task, rank) if exact else _leading(matrix, task, rank) for task in matrix.tasks]
    S = torch.cat([own.S for own in found])
    if S.numel() == 0:
        return None

    def left(start: int, stop: int) -> torch.Tensor:
        """Rows of U (m, r)."""
        return torch.cat(
            [_left(matrix, task, own, start, stop) for task, own in zip(matrix.tasks, found, strict=True)], 1
        )

    def left_gram() -> torch.Tensor:
        return summed_gram((left(*bounds) for bounds in matrix.bounds()), len(S))

    root = None
    if not exact:
        gram = left_gram()
        inexact = _inexact(gram, found)
        for place in inexact:
            found[place] = _exact(matrix, matrix.tasks[place], rank)
        if inexact:
            S, gram = torch.cat([own.S for own in found]), left_gram()
        root = inverse_root(gram, max(matrix.m, len(S)), matrix.name)
        del gram
    right = S[:, None] * orthogonalised(torch.cat([own.V for own in found], 1), matrix.name).T
    if root is not None:
        core = root @ right
        return lambda start, stop: left(start, stop) @ core
    whole = orthogonalised(torch.cat([left(*bounds) for bounds in matrix.bounds()]), matrix.name, exact=True)
    return lambda start, stop: whole[start:stop] @ right


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


def _leading(matrix: Tall, task: str, rank: int) -> Leading:
    S, V = right_vectors(summed_gram(matrix.each(task), matrix.n), matrix.m, matrix.name)
    return Leading(S[:rank], V[:, :rank].clone())


def _exact(matrix: Tall, task: str, rank: int) -> Leading:
    U, S, V = thin_svd(matrix.whole(task), matrix.name, rank)
    return Leading(S, V.T, U)


def _left(matrix: Tall, task: str, own: Leading, start: int, stop: int) -> torch.Tensor:
    if own.U is not None:
        return own.U[start:stop]
    return matrix.vectors(start, stop, [task])[0].double() @ (own.V / own.S)


def _inexact(gram: torch.Tensor, found: list[Leading]) -> list[int]:
    """The places of the tasks whose columns of U are not orthonormal. gram: of all tasks' columns side by side."""
    places, first = [], 0
    for place, own in enumerate(found):
        block = gram[first : first + len(own.S), first : first + len(own.S)].clone()
        block.diagonal().sub_(1)
        if own.U is None and block.numel() and not float(block.abs().max()) <= ORTHONORMAL:
            places.append(place)
        first += len(own.S)
    return places
