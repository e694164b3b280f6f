"""A loaded model's exclusive vectors at smaller ranks or densities than those they were loaded with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch

from twin_merging.checkpoints.architectures import output_layer
from twin_merging.compression.sparse import count_of
from twin_merging.model.gated import Gated
from twin_merging.model.sparse_files import COLUMNS, VALUES


@dataclass(frozen=True)
class _Whole:
    """One matrix's stacked factors as they were loaded. name: the matrix's, in the body."""

    layer: Gated
    part: str
    name: str
    down: torch.Tensor
    up: torch.Tensor
    ranks: tuple[int, ...]


class Cuts:
    """Cuts of one model. The factors that it was loaded with are kept, so that a cut can be larger than the last."""

    def __init__(self, model: Any):
        names = {id(value): name for name, value in model.body.named_parameters()}
        layers = dict(model.body.named_modules())
        if (output := output_layer(model.model)) is not None:
            layers[output[0]] = output[1]
        self._whole: list[_Whole] = []
        self._sparse: list[tuple[Gated, torch.Tensor, torch.Tensor]] = []
        for path, layer in layers.items():
            if not isinstance(layer, Gated):
                continue
            columns, values = layer.part("weight", COLUMNS), layer.part("weight", VALUES)
            if columns is not None and values is not None:
                self._sparse.append((layer, columns, values))
            weight = names.get(id(getattr(layer, "weight", None)), f"{path}.weight")
            for part, ranks in layer.ranks.items():
                down, up = layer.part(part, "down"), layer.part(part, "up")
                if down is not None and up is not None:
                    name = weight if part == "weight" else f"{weight}.{part}"
                    self._whole.append(_Whole(layer, part, name, down, up, ranks))

    @torch.no_grad()
    def thin(self, density: float, rescale: float) -> None:
        """Keep so much of each row of sparse matrices, times a factor."""
        for layer, columns, values in self._sparse:
            weight: Any = layer.weight
            count = count_of(weight.shape[1], density)
            setattr(layer, f"weight_{COLUMNS}", columns[:, :, :count].contiguous())
            setattr(layer, f"weight_{VALUES}", values[:, :, :count] * rescale)

    @torch.no_grad()
    def cut(self, ranks: Sequence[Mapping[str, int]]) -> None:
        """Keep the leading singular triples of each matrix: so many as `ranks` says of each task, in the model's order
        of tasks, by the matrix's name. A matrix that is not named there keeps none."""
        for one in self._whole:
            wanted = tuple(min(rank, own.get(one.name, 0)) for rank, own in zip(one.ranks, ranks, strict=True))
            firsts = [end - rank for end, rank in zip(accumulate(one.ranks), one.ranks, strict=True)]
            spans = [slice(first, first + rank) for first, rank in zip(firsts, wanted, strict=True) if rank]
            device: Any = one.layer.weight.device
            down = torch.cat([one.down[span] for span in spans]).to(device) if spans else None
            up = torch.cat([one.up[:, span] for span in spans], dim=1).contiguous().to(device) if spans else None
            one.layer.ranks[one.part] = wanted
            setattr(one.layer, f"{one.part}_down", down)
            setattr(one.layer, f"{one.part}_up", up)
