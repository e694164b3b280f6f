"""`lora_space: factor`: merges the LoRA factors A and B separately, as the paper's generative code does.

The product of the merged factors is another matrix than the merged product of the factors. The option exists to match
figures that were made in this way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from twin_merging.checkpoints.adapters import Factors
from twin_merging.errors import UserError
from twin_merging.merging.inputs import Inputs, Tensors, Vector

if TYPE_CHECKING:
    import torch

DOWN, UP = ".lora_A", ".lora_B"


def factor_space(inputs: Inputs) -> tuple[Inputs, list[str]]:
    """The inputs with every matrix that LoRA changes replaced by its two factors, and the names of these matrices.

    The factors A and B are then merged like any other parameter; their base is 0. What the experts change in other
    ways stays as it is. Raises UserError when the experts' ranks differ, or when one expert trains a whole matrix that
    another one changes by LoRA.
    """
    ranks = {name: rank for name in inputs.names if (rank := _rank(inputs.vectors, name)) is not None}
    if not ranks:
        first = next(iter(inputs.vectors.values()))
        raise UserError(
            f"{first.where}: lora_space: factor is for LoRA experts, but no expert is one; leave the option out"
        )
    names = [name for name in inputs.names if name not in ranks and _changed(inputs.vectors, name)]
    names += [part for name in ranks for part in parts_of(name)]
    base = _FactorBase(inputs.base, ranks)
    vectors = {task: _FactorVector(vector) for task, vector in inputs.vectors.items()}
    return replace(inputs, base=base, vectors=vectors, names=tuple(sorted(names))), sorted(ranks)


def parts_of(name: str) -> tuple[str, str]:
    """The names under which a matrix's factors A and B stand among the inputs."""
    return name + DOWN, name + UP


def _changed(vectors: Mapping[str, Vector], name: str) -> bool:
    return any(vector.changes(name) for vector in vectors.values())


def _rank(vectors: Mapping[str, Vector], name: str) -> int | None:
    """The rank that all experts' factors of a matrix have; None when no expert changes the matrix by LoRA."""
    found: dict[int, str] = {}
    for vector in vectors.values():
        factors = vector.factors(name)
        if factors is not None:
            found.setdefault(factors.down.shape[0], vector.where)
        elif vector.changes(name) and any(other.factors(name) for other in vectors.values()):
            raise UserError(
                f"{vector.where}: '{name}' is trained whole here, but by LoRA in other experts; use lora_space: product"
            )
    if len(found) > 1:
        (rank, one), (other_rank, other) = list(found.items())[:2]
        raise UserError(
            f"{other}: '{name}' has LoRA rank {other_rank}, but {rank} in {one}; factors of different ranks cannot be "
            "merged, use lora_space: product"
        )
    return next(iter(found), None)


class _FactorBase:
    """The base, which also gives zeros for every factor."""

    def __init__(self, base: Tensors, ranks: Mapping[str, int]):
        self._base = base
        self._shapes: dict[str, tuple[int, ...]] = {}
        for name, rank in ranks.items():
            m, n = base.shape(name)
            self._shapes |= {name + DOWN: (rank, n), name + UP: (m, rank)}

    def rows(self, name: str, start: int, stop: int) -> torch.Tensor:
        import torch

        if name in self._shapes:
            return torch.zeros(stop - start, *self._shapes[name][1:])
        return self._base.rows(name, start, stop)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name] if name in self._shapes else self._base.shape(name)


class _FactorVector:
    """A task vector that gives the factors of a LoRA matrix in place of their product."""

    def __init__(self, vector: Vector):
        self.where, self._vector = vector.where, vector

    def factors(self, name: str) -> Factors | None:
        return None

    def changes(self, name: str) -> bool:
        return self._split(name) is not None or self._vector.changes(name)

    def rows(self, name: str, start: int, stop: int, base: torch.Tensor) -> torch.Tensor:
        split = self._split(name)
        if split is None:
            return self._vector.rows(name, start, stop, base)
        factors = self._vector.factors(split[0])
        if factors is None:
            return base.new_zeros(base.shape)
        return (factors.down if split[1] == DOWN else factors.up)[start:stop]

    def _split(self, name: str) -> tuple[str, str] | None:
        return next(((name.removesuffix(part), part) for part in (DOWN, UP) if name.endswith(part)), None)
