"""`lora_space: core`: merges LoRA experts in a basis that all of them share, as small square matrices.

For each matrix W (m, n) the experts' B_t, with their scales, stand side by side: (m, R), R the sum of the ranks. Their
A_t stand below each other: (R, n). U_B and V_A are the left and the right singular vectors of the two, without those of
singular value zero. An expert's change B_t A_t is then U_B M_t V_A' with M_t = U_B' B_t A_t V_A, at most R x R. The M_t
are merged by any method, and U_B M V_A' is added to the base. (Core Space, Panariello et al. 2025, arXiv 2509.17786;
KnOTS, Stoica et al. 2024, arXiv 2410.19735, takes one such basis, of the columns.)

No number is lost, so a method that is a sum, or that does not depend on the basis (singular vectors, angles), finds
what it finds from the products B_t A_t. A method that looks at entries (Ties, DARE) looks at those of M_t. Experts may
have different ranks and scales. Matrices that were one when the adapters were trained are merged each by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from twin_merging.algebra.solvers import svd
from twin_merging.checkpoints.adapters import Factors
from twin_merging.errors import UserError
from twin_merging.merging.inputs import Inputs, Vector, check_finite
from twin_merging.merging.replacing import ReplacedBase, ReplacedVector, others_changed, trained_whole
from twin_merging.merging.workers import in_order

if TYPE_CHECKING:
    import torch

Arrays = tuple[Any, Any]
CORE = "lora_core."  # stands before a matrix's name; what follows still tells the kind of parameter


@dataclass(frozen=True)
class Side:
    """The basis of one side of a matrix: of the stacked factors F (R, length), F = W S Z' with Z (length, k).

    `inner` is W (R, k), `values` S (k,), both fp64. F Z = W S, so that neither Z nor F is needed for the cores.
    """

    inner: torch.Tensor
    values: torch.Tensor

    @classmethod
    def of(cls, stacked: torch.Tensor, name: str) -> Side:
        """Of stacked factors (R, length). Singular values are left out that are zero in fp32."""
        import torch

        triangle = torch.linalg.qr(stacked.double().T, mode="r").R  # F' = Q R, and R = . S W'
        _, S, W = svd(triangle, name)
        kept = torch.finfo(torch.float32).eps * S[0] < S
        return cls(W[kept].T.contiguous(), S[kept])

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Side:
        import torch

        return cls(*map(torch.from_numpy, arrays))

    @property
    def size(self) -> int:
        return len(self.values)

    def coordinates(self, first: int, last: int) -> torch.Tensor:
        """Rows first to last of F in the basis, F Z: (last - first, k)."""
        return self.inner[first:last] * self.values

    def basis(self, stacked: torch.Tensor) -> torch.Tensor:
        """Z' (k, length) in fp64, from F."""
        return (self.inner / self.values).T @ stacked.double()


@dataclass(frozen=True)
class CoreMatrix:
    """A matrix of the base that LoRA changes, in the experts' common basis.

    places: of each expert that changes it, the first and last (exclusive) of its rows among the stacked ones.
    kept: the last matrix's merged factors, one dictionary for all matrices: a matrix is written in many ranges of rows.
    """

    name: str
    vectors: Mapping[str, Vector]
    places: Mapping[str, tuple[int, int]]
    up: Side
    down: Side
    kept: dict[str, Factors] = field(repr=False)

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """Of the core M, by its name."""
        return {CORE + self.name: (self.up.size, self.down.size)}

    def core(self, task: str) -> torch.Tensor | None:
        """M_t (k_B, k_A) in fp32; None of an expert that leaves the matrix alone."""
        if task not in self.places:
            return None
        place = self.places[task]
        return (self.up.coordinates(*place).T @ self.down.coordinates(*place)).float()

    def change(self, core: torch.Tensor) -> Factors:
        """The merged change U_B M V_A', as factors U_B (m, k_B) and M V_A' (k_B, n)."""
        if self.name not in self.kept:
            self.kept.clear()
            up, down = _stacked(self.vectors, self.name)
            below = core.double() @ self.down.basis(down)
            self.kept[self.name] = Factors(below.float(), self.up.basis(up).T.float().contiguous())
        return self.kept[self.name]


def core_space(inputs: Inputs) -> tuple[Inputs, list[CoreMatrix]]:
    """The inputs with every matrix that LoRA changes replaced by its core, and these matrices.

    A core is merged like any other parameter; its base is 0. What the experts change in other ways stays as it is. A
    matrix whose every product is 0, as of layers that no adapter trained, is left out: it stays the base's.
    Raises UserError when no expert is an adapter, when one trains a whole matrix that another one changes by LoRA, or
    when nothing is changed at all.
    """
    changed = [name for name in inputs.names if any(vector.factors(name) for vector in inputs.vectors.values())]
    if not changed:
        first = next(iter(inputs.vectors.values()))
        raise UserError(
            f"{first.where}: lora_space: core is for LoRA experts, but no expert is one; leave the option out"
        )
    places = {name: _places(inputs.vectors, name) for name in changed}
    kept: dict[str, Factors] = {}
    found = in_order(changed, lambda name: _sides(inputs.vectors, name), inputs.workers)
    sides = zip(changed, inputs.progress(found, "finding common bases", len(changed)), strict=True)
    matrices = [
        CoreMatrix(name, inputs.vectors, places[name], Side.from_arrays(up), Side.from_arrays(down), kept)
        for name, (up, down) in sides
        if len(up[1]) and len(down[1])
    ]
    by_core = {core: matrix for matrix in matrices for core in matrix.shapes}
    base = ReplacedBase(inputs.base, {name: matrix.shapes[name] for name, matrix in by_core.items()})
    vectors = {
        task: ReplacedVector(vector, by_core, partial(_core, by_core, task)) for task, vector in inputs.vectors.items()
    }
    names = tuple(sorted([*others_changed(inputs.names, changed, inputs.vectors), *by_core]))
    if not names:
        where = ", ".join(vector.where for vector in inputs.vectors.values())
        raise UserError(f"{where}: every B A of these adapters is 0, so nothing is there to merge; train them first")
    return replace(inputs, base=base, vectors=vectors, names=names), matrices


def _places(vectors: Mapping[str, Vector], name: str) -> dict[str, tuple[int, int]]:
    found, first = {}, 0
    for task, vector in vectors.items():
        factors = vector.factors(name)
        if factors is not None:
            last = first + factors.down.shape[0]
            found[task] = (first, last)
            first = last
        elif vector.changes(name):
            raise trained_whole(vector, name)
    return found


def _stacked(vectors: Mapping[str, Vector], name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """All experts' factors of a matrix: the B's with their scales, turned (R, m), and the A's (R, n)."""
    import torch

    ups, downs = [], []
    for vector in vectors.values():
        factors = vector.factors(name)
        if factors is not None:
            for factor in (factors.up, factors.down):
                check_finite(factor, vector.where, name)
            ups.append(factors.up.T)
            downs.append(factors.down)
    return torch.cat(ups), torch.cat(downs)


def _sides(vectors: Mapping[str, Vector], name: str) -> tuple[Arrays, Arrays]:
    """Both sides of a matrix, as arrays, which go from one process to another as bytes."""
    up, down = (Side.of(stacked, name) for stacked in _stacked(vectors, name))
    return (up.inner.numpy(), up.values.numpy()), (down.inner.numpy(), down.values.numpy())


def _core(matrices: Mapping[str, CoreMatrix], task: str, name: str) -> torch.Tensor | None:
    """A task's core of this name, of the matrices by their cores' names."""
    return matrices[name].core(task)
