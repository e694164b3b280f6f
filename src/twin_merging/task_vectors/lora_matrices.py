"""Matrices as they were when LoRA adapters were trained, whose factors are merged apart (`lora_space: factor`)."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from twin_merging.checkpoints.adapters import Factors
from twin_merging.errors import UserError
from twin_merging.io.tensors import Checkpoint, save_tensors

if TYPE_CHECKING:
    import torch

DOWN, UP = ".lora_A", ".lora_B"
_MATRICES = "matrices"


class HasFactors(Protocol):
    """What of a task vector its factors are read from."""

    where: str

    def factors(self, name: str) -> Factors | None: ...


@dataclass(frozen=True)
class LoraMatrix:
    """A matrix that LoRA changes, as it was when the adapters were trained: of the base one, or several below each
    other.

    name: what its factors are called by; parts: the base's names in the order of the rows of B, with the number of
    rows of each; columns: of A; rank, scale: of every adapter.
    """

    name: str
    parts: Mapping[str, int]
    columns: int
    rank: int
    scale: float

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """Of A (r, n) and B (m, r), by the names of both."""
        return {self.name + DOWN: (self.rank, self.columns), self.name + UP: (sum(self.parts.values()), self.rank)}

    def of_part(self, down: torch.Tensor, up: torch.Tensor, part: str) -> Factors:
        """One part's factors, of the whole's: A is the same, B its rows."""
        before = 0
        for name, rows in self.parts.items():
            if name == part:
                return Factors(down, up[before : before + rows], self.scale)
            before += rows
        raise KeyError(part)


def whole_factors(vector: HasFactors, matrix: LoraMatrix) -> Factors | None:
    """An expert's factors of a matrix as it was trained; None where the expert leaves it alone."""
    import torch

    own = [vector.factors(part) for part in matrix.parts]
    found = [factors for factors in own if factors is not None]
    if not found:
        return None
    for part, factors in zip(matrix.parts, own, strict=True):
        if factors is None or not factors.down.equal(found[0].down):
            raise UserError(
                f"{vector.where}: '{part}' has not the A of the other parts of '{matrix.name}', which was one matrix "
                "when the adapter was trained; fetch the adapter again"
            )
    return Factors(found[0].down, torch.cat([factors.unscaled for factors in found]), found[0].scale)


def save_factors(path: Path, matrices: Collection[LoraMatrix], tensors: Mapping[str, torch.Tensor]) -> None:
    """Write A and B of matrices, by the names of both, without the scale, which the header tells."""
    told = {one.name: {"parts": list(one.parts.items()), "scale": one.scale} for one in matrices}
    save_tensors(path, tensors, {_MATRICES: json.dumps(told)})


class MergedFactors:
    """What save_factors wrote."""

    def __init__(self, path: Path):
        self._file = Checkpoint(path)
        told = json.loads(self._file.metadata[_MATRICES])
        self.matrices = [self._matrix(name, entry) for name, entry in sorted(told.items())]

    def of(self, matrix: LoraMatrix) -> tuple[torch.Tensor, torch.Tensor]:
        """A* (r, n) and B* (m, r), fp32, without the scale."""
        return self._file[matrix.name + DOWN], self._file[matrix.name + UP]

    def _matrix(self, name: str, told: Mapping[str, Any]) -> LoraMatrix:
        rank, columns = self._file.shape(name + DOWN)
        return LoraMatrix(name, dict(told["parts"]), columns, rank, told["scale"])
