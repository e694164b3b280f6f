"""Exclusive files: they hold a task's decomposed exclusive knowledge, and are read at the size that a method asks for.

For each matrix a file holds U (m, r), S (r,), V (r, n) where a method asks for a rank, `columns` (m, k) and `values`
(m, k) and `width`, n, where one asks for a density (twin_merging.compression.sparse), and `norm2`, the squared
Frobenius norm before the cut. 1-D tensors are stored whole. A difference that is zero is not stored.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from twin_merging.compression.sparse import Entries, count_of
from twin_merging.io.tensors import Checkpoint, save_tensors

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

RANKS = ("rank", "fraction", "energy")  # sizes of low-rank exclusives
DENSITY = "density"  # the size of sparse ones
_PARTS = ("U", "S", "V", "columns", "values", "width", "norm2")


@dataclass(frozen=True)
class Decomposition:
    """U (m, r), S (r,) in descending order, and V (r, n); norm2 is the squared norm of the decomposed matrix."""

    U: torch.Tensor
    S: torch.Tensor
    V: torch.Tensor
    norm2: float

    def cut(self, rank: int) -> Decomposition:
        return Decomposition(self.U[:, :rank], self.S[:rank], self.V[:rank], self.norm2)


def rank_of(m: int, n: int, sizes: Mapping[str, float]) -> int:
    """The rank of an m x n matrix that `sizes` ask for: `rank`, or floor(fraction * min(m, n)) with at least 1.

    If both are given, the larger one counts. For an `energy` this is min(m, n): all triples are needed first, and
    `rank_for_energy` then says how many of them are kept.
    """
    least = min(m, n)
    if "energy" in sizes:
        return least
    asked = [int(sizes["rank"])] if "rank" in sizes else []
    if "fraction" in sizes:
        asked.append(max(1, int(sizes["fraction"] * least + 1e-9)))
    return min(least, max(asked))


def rank_for_energy(values: torch.Tensor, norm2: float, energy: float) -> int:
    """The least rank whose singular `values` keep `energy` of the squared norm `norm2`."""
    kept = values.double().square().cumsum(0)
    return min(len(values), int((kept < energy * norm2 * (1 - 1e-12)).sum()) + 1) if norm2 > 0 else 0


class Kept:
    """What is kept of a task's exclusive knowledge: the tensors of its file, and how much of the matrices' energy."""

    def __init__(self) -> None:
        self._tensors: dict[str, torch.Tensor] = {}
        self._total = self._share = 0.0

    def vector(self, name: str, difference: torch.Tensor) -> None:
        if difference.any():
            self._tensors[name] = difference

    def matrix(self, name: str, found: Decomposition) -> None:
        if found.norm2 > 0:
            self._tensors |= {f"{name}.U": found.U, f"{name}.S": found.S, f"{name}.V": found.V}
            self._tensors[f"{name}.norm2"] = found.S.double().new_tensor([found.norm2])
        self._total += found.norm2
        self._share += float(found.S.double().square().sum())

    def sparse(self, name: str, found: Entries) -> None:
        if found.norm2 > 0:
            self._tensors |= {f"{name}.columns": found.columns, f"{name}.values": found.values}
            self._tensors[f"{name}.norm2"] = found.values.double().new_tensor([found.norm2])
            self._tensors[f"{name}.width"] = found.columns.long().new_tensor([found.width])
        self._total += found.norm2
        self._share += float(found.values.double().square().sum())

    def save(self, output: Path, what: str) -> None:
        """Write the file. what: whose energy it is, for the log."""
        save_tensors(output, self._tensors)
        stored = sum(tensor.numel() for tensor in self._tensors.values())
        share = 100 * self._share / (self._total or 1)
        log.info("%s: %d numbers stored, %.2f %% of the %s energy", output, stored, share, what)


class Exclusive:
    """An exclusive file, read at the size that one method asks for."""

    def __init__(self, path: Path, sizes: Mapping[str, float], shared: Collection[str] = ()):
        """shared: the parameters that stay the shared expert's; nothing of them is kept."""
        self._file = Checkpoint(path)
        self.sizes, self.shared = sizes, shared
        self.matrices = sorted(name.removesuffix(".norm2") for name in self._file if name.endswith(".norm2"))
        parts = {f"{name}.{part}" for name in self.matrices for part in _PARTS}
        self.vectors = [name for name in self._file if name not in parts]

    def vector(self, name: str) -> torch.Tensor:
        """A 1-D tensor, which is kept whole."""
        return self._file[name]

    def matrix(self, name: str) -> Decomposition:
        """A matrix's factors at the rank that the sizes ask for."""
        values, norm2 = self.values(name)
        return Decomposition(self._file[f"{name}.U"], values, self._file[f"{name}.V"], norm2).cut(len(values))

    @property
    def is_sparse(self) -> bool:
        return DENSITY in self.sizes

    def entries(self, name: str) -> Entries:
        """A matrix's largest entries at the density that the sizes ask for."""
        columns, values = self._file[f"{name}.columns"], self._file[f"{name}.values"]
        width, norm2 = int(self._file[f"{name}.width"]), float(self._file[f"{name}.norm2"])
        count = 0 if name in self.shared else count_of(width, self.sizes[DENSITY])
        return Entries(columns, values, width, norm2).cut(count)

    def values(self, name: str) -> tuple[torch.Tensor, float]:
        """A matrix's singular values at that rank, and its squared norm before the cut."""
        S, norm2 = self._file[f"{name}.S"], float(self._file[f"{name}.norm2"])
        if name in self.shared:
            return S[:0], norm2
        if "energy" in self.sizes:
            return S[: rank_for_energy(S, norm2, self.sizes["energy"])], norm2
        m, n = self._file.shape(f"{name}.U")[0], self._file.shape(f"{name}.V")[1]
        return S[: rank_of(m, n, self.sizes)], norm2
