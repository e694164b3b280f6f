"""A full fine-tune as low-rank factors: theta - theta_0 of each linear layer cut by SVD, and how much that leaves out.

Errors are relative: of one layer |D - B A| / |D| in Frobenius norms, D being theta - theta_0; in total the same of all
parameters together, where what is not stored counts whole.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twin_merging.checkpoints.experts import Expert
from twin_merging.checkpoints.groups import group_of
from twin_merging.compression.decompositions import decompose, squared_norm
from twin_merging.errors import UserError
from twin_merging.merging.workers import in_order, one_thread_each

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Layer:
    """One linear layer's change D (m, n) as B (m, r) `up` times A (r, n) `down`; norm2, error2: |D|^2, |D - B A|^2."""

    name: str
    down: torch.Tensor
    up: torch.Tensor
    norm2: float
    error2: float

    @property
    def rank(self) -> int:
        return len(self.down)

    @property
    def error(self) -> float:
        return math.sqrt(self.error2 / self.norm2) if self.norm2 else 0.0


@dataclass(frozen=True)
class Other:
    """A parameter that is no matrix of a linear layer: its group, |D|^2, and whether it is stored whole."""

    name: str
    group: str
    norm2: float
    is_saved: bool = False


@dataclass(frozen=True)
class Extraction:
    """All that was made of one fine-tune; layers and others that did not change are not among them."""

    layers: Sequence[Layer]
    others: Sequence[Other]

    @property
    def norm2(self) -> float:
        return math.fsum([*(one.norm2 for one in self.layers), *(one.norm2 for one in self.others)])

    @property
    def error(self) -> float:
        """Of everything together."""
        left = math.fsum([*(one.error2 for one in self.layers), *(o.norm2 for o in self.others if not o.is_saved)])
        return math.sqrt(left / self.norm2) if self.norm2 else 0.0

    @property
    def error_of_layers(self) -> float:
        whole = math.fsum(one.norm2 for one in self.layers)
        return math.sqrt(math.fsum(one.error2 for one in self.layers) / whole) if whole else 0.0

    def record(self) -> dict[str, Any]:
        """What extraction.json says. share: of the squared norm of theta - theta_0."""
        whole = self.norm2 or 1.0
        return {
            "relative_error": self.error,
            "relative_error_of_linear_layers": self.error_of_layers,
            "layers": {one.name: {"rank": one.rank, "relative_error": one.error} for one in self.layers},
            "others": {
                one.name: {"group": one.group, "share": one.norm2 / whole, "saved": one.is_saved} for one in self.others
            },
        }

    def lines(self) -> list[str]:
        """The same to be read."""
        found = [f"{one.name}: rank {one.rank}, relative error {one.error:.4g}" for one in self.layers]
        whole = self.norm2 or 1.0
        for group in sorted({one.group for one in self.others}):
            own = [one for one in self.others if one.group == group]
            kept = [one for one in own if one.is_saved]
            share = math.fsum(one.norm2 for one in own) / whole
            what = "stored whole" if len(kept) == len(own) else f"left out{f' but for {len(kept)}' if kept else ''}"
            found.append(
                f"{group}: {len(own)} parameters that are no linear layer, {100 * share:.4g} % of the squared norm of "
                f"what changed: {what}: {_listed([one.name for one in own])}"
            )
        return [*found, f"linear layers together: relative error {self.error_of_layers:.4g}",
                f"everything together: relative error {self.error:.4g}"]  # fmt: skip


def _listed(names: Sequence[str], most: int = 4) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def extract(
    expert: Expert,
    linear: Mapping[str, bool],
    sizes: Mapping[str, float],
    workers: int,
) -> Extraction:
    """Decompose what an expert changed of its base. linear: names in the base of the matrices of linear layers, and
    whether each is kept as (in, out). sizes: `rank`, `fraction` or `energy`.

    The numbers depend on the inputs alone, and not on how many processes (`workers`) there are. Raises UserError for
    NaN or infinity.
    """
    import torch

    base = expert.base
    names = [name for name in base if base.dtype(name).is_floating_point]

    def work(name: str) -> tuple[str, Any]:
        value = expert.parameter(name).float() - base[name].float()
        if not value.isfinite().all():
            raise UserError(f"{expert.directory}: tensor '{name}' holds NaN or infinity in the model or in its base; "
                            "train or fetch it again")  # fmt: skip
        if name not in linear:
            return name, squared_norm(value.reshape(1, -1))
        matrix = value.T.contiguous() if linear[name] else value
        found = decompose(matrix, sizes, name)
        root = found.S.sqrt()
        up, down = (found.U * root).contiguous(), (root[:, None] * found.V).contiguous()
        left = squared_norm(torch.addmm(matrix, up, down, alpha=-1))
        return name, (down.numpy(), up.numpy(), found.norm2, left)

    layers, others = [], []
    with one_thread_each():
        for name, found in in_order(names, work, workers):
            if isinstance(found, float):
                others += [Other(name, _group(name), found)] if found else []
            elif found[2]:
                down, up, norm2, left = found
                layers.append(Layer(name, torch.from_numpy(down), torch.from_numpy(up), norm2, left))
    return Extraction(layers, others)


def _group(name: str) -> str:
    if "bias" in name.rpartition(".")[2]:
        return "bias"
    group = group_of(name)
    return group if group in ("embedding", "norm", "bias") else "other"


def saved(found: Extraction, names: Collection[str]) -> Extraction:
    """The same, where others of these names are stored whole."""
    others = [Other(one.name, one.group, one.norm2, one.name in names) for one in found.others]
    return Extraction(found.layers, others)
