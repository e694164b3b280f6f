"""A masked method's parts of the model: one vector for all tasks, and each task's masks (EMR-Merging)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from twin_merging.io.masks import MASKS, RESCALE, UNIFIED, unpack
from twin_merging.io.tensors import Checkpoint
from twin_merging.model.gated import Masked, Parts


@dataclass(frozen=True)
class MaskedVectors:
    """A unified vector, and each task's masks and factor, in the order of the tasks."""

    unified: Checkpoint
    masks: list[Checkpoint]

    @classmethod
    def load(cls, directory: Path, tasks: list[str]) -> MaskedVectors | None:
        """Those of a merged model's directory; None where it has none."""
        if not (directory / MASKS).is_dir():
            return None
        masks = [Checkpoint(directory / MASKS / f"{task}.safetensors") for task in tasks]
        return cls(Checkpoint(directory / UNIFIED), masks)

    def parts(self, name: str, shared: torch.Tensor) -> Parts:
        """A small parameter's values for all tasks; what a larger one's are made of."""
        unified = self.unified[name]
        bits = torch.stack([mask[name] for mask in self.masks])
        rescale = torch.stack([mask[RESCALE] for mask in self.masks])
        if unified.dim() > 1:
            return Parts(masked=Masked(unified, bits, rescale))
        return Parts(private=shared.detach() + rescale[:, None] * unpack(bits[:, 0], unified.shape[0]) * unified)
