"""Stage task_vectors: what fine-tuning changed in the body, tau_t = theta_t - theta_0, in fp32.

A file holds one tensor a parameter; for a LoRA expert two, `<name>.lora_A` (r, n) and `<name>.lora_B` (m, r), whose
product B A is the change (the scale is in B), and nothing for parameters that the adapter leaves alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from twin_merging.checkpoints import Checkpoint, open_directory, save_tensors, write_tensors
from twin_merging.errors import UserError
from twin_merging.experts import Expert, Factors
from twin_merging.parameters import group_of

if TYPE_CHECKING:
    import torch


def extract_task_vector(base: Path, expert: Path, output: Path) -> None:
    """Write the task vector of the expert in directory `expert`; the head, integer buffers and the pooler have none."""
    import torch

    start = open_directory(base)
    tuned = Expert(expert, start)
    names = [name for name in start if group_of(name) != "head" and start.dtype(name).is_floating_point]
    if tuned.is_adapter:
        own = {name: tuned.parameter(name).float() - start[name].float() for name in tuned.changed if name in names}
        for name, factors in tuned.factors.items():
            own[f"{name}.lora_A"], own[f"{name}.lora_B"] = factors.down, factors.up
        save_tensors(output, own, {"form": "lora"})
        return

    def differences() -> Iterator[tuple[str, torch.Tensor]]:
        for name in names:
            difference = tuned.parameter(name).float() - start[name].float()
            if not difference.isfinite().all():
                raise UserError(f"{expert}: tensor '{name}' holds NaN or infinity; train or fetch the expert again")
            yield name, difference

    shapes = {name: (start.shape(name), torch.float32) for name in names}
    write_tensors(output, shapes, differences(), {"form": "dense"})


class TaskVector:
    """A task vector on disk, read a parameter at a time."""

    def __init__(self, path: Path):
        self._file = Checkpoint(path)
        self.is_lora = self._file.metadata.get("form") == "lora"

    def factors(self, name: str) -> Factors | None:
        """The low-rank form of one parameter's change, where the expert is a LoRA adapter that changes it."""
        if f"{name}.lora_A" not in self._file:
            return None
        return Factors(self._file[f"{name}.lora_A"], self._file[f"{name}.lora_B"])

    def change(self, name: str, like: torch.Tensor) -> torch.Tensor:
        """Dense fp32 change of one parameter, in the shape of `like`; zeros where a LoRA adapter leaves it alone."""
        import torch

        factors = self.factors(name)
        if factors is not None:
            return factors.product()
        if name in self._file:
            return self._file[name]
        if self.is_lora:
            return torch.zeros_like(like, dtype=torch.float32)
        raise UserError(f"{self._file.paths[0]}: no tensor '{name}', which the base has; extract the task vector again")
