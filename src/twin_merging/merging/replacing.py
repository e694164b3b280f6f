"""Inputs of a merge in which some matrices stand as others: their LoRA factors, or their cores in a common basis."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from twin_merging.checkpoints.adapters import Factors
from twin_merging.checkpoints.fused import Groups
from twin_merging.errors import UserError
from twin_merging.merging.inputs import Tensors, Vector

if TYPE_CHECKING:
    import torch


class ReplacedBase:
    """The base, which also gives zeros for every matrix that stands in the place of others, of these shapes."""

    def __init__(self, base: Tensors, shapes: Mapping[str, tuple[int, ...]]):
        self._base, self._shapes = base, shapes

    def rows(self, name: str, start: int, stop: int) -> torch.Tensor:
        import torch

        if name in self._shapes:
            return torch.zeros(stop - start, self._shapes[name][1])
        return self._base.rows(name, start, stop)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name] if name in self._shapes else self._base.shape(name)


class ReplacedVector:
    """A task vector that also gives its share of every such matrix (`names`). given: that share, None where it is 0."""

    def __init__(self, vector: Vector, names: Collection[str], given: Callable[[str], torch.Tensor | None]):
        self.where, self._vector, self._names, self._given = vector.where, vector, names, given

    @property
    def fused(self) -> Groups:
        return self._vector.fused

    def factors(self, name: str) -> Factors | None:
        return None

    def changes(self, name: str) -> bool:
        return name in self._names or self._vector.changes(name)

    def rows(self, name: str, start: int, stop: int, base: torch.Tensor) -> torch.Tensor:
        if name not in self._names:
            return self._vector.rows(name, start, stop, base)
        own = self._given(name)
        return base.new_zeros(base.shape) if own is None else own[start:stop]


def others_changed(names: Collection[str], replaced: Collection[str], vectors: Mapping[str, Vector]) -> list[str]:
    """Those of the names that are not replaced, and that some vector changes."""
    return [name for name in names if name not in replaced and any(one.changes(name) for one in vectors.values())]


def trained_whole(vector: Vector, name: str) -> UserError:
    """What is wrong with a matrix that this expert trains whole."""
    return UserError(
        f"{vector.where}: '{name}' is trained whole here, but by LoRA in other experts; use lora_space: product"
    )
