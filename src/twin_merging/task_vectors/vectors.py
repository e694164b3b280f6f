"""Stage task_vectors: what fine-tuning changed in the body, tau_t = theta_t - theta_0, in fp32.

A file holds one tensor a parameter; for a LoRA expert two, `<name>.lora_A` (r, n) and `<name>.lora_B` (m, r), whose
product B A times the scale that the header tells is the change, and nothing for parameters that the adapter leaves
alone. The header tells too of matrices that were one when the adapter was trained (twin_merging.checkpoints.fused).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from twin_merging.checkpoints.adapters import Factors
from twin_merging.checkpoints.experts import Expert
from twin_merging.checkpoints.fused import fused_metadata, fused_of
from twin_merging.checkpoints.groups import group_of
from twin_merging.errors import UserError
from twin_merging.io.ranges import row_count
from twin_merging.io.tensors import Checkpoint, save_tensors, write_tensors
from twin_merging.io.weights import open_directory

if TYPE_CHECKING:
    import torch


SCALES = "scales"  # of the products, by the parameter's name, in the metadata


def extract_task_vector(base: Path, expert: Path, output: Path) -> None:
    """Write the task vector of the expert in directory `expert`; the head, integer buffers and the pooler have none."""
    import torch

    start = open_directory(base)
    tuned = Expert(expert, start)
    names = [name for name in start if group_of(name) != "head" and start.dtype(name).is_floating_point]
    if tuned.is_adapter:
        own = {name: tuned.parameter(name).float() - start[name].float() for name in tuned.changed if name in names}
        scales = {}
        for name, factors in tuned.factors.items():
            scales[name] = factors.scale
            own[f"{name}.lora_A"], own[f"{name}.lora_B"] = factors.down, factors.unscaled
        told = {SCALES: json.dumps(scales, sort_keys=True)}
        save_tensors(output, own, {"form": "lora", **told, **fused_metadata(tuned.fused)})
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
    """A task vector on disk, read by ranges of rows."""

    def __init__(self, path: Path):
        self.where = str(path)
        self._file = Checkpoint(path)
        self.is_lora = self._file.metadata.get("form") == "lora"
        self.fused = fused_of(self._file.metadata)
        self._scales: dict[str, float] = json.loads(self._file.metadata.get(SCALES, "{}"))

    @property
    def names(self) -> list[str]:
        """The parameters of which the file holds a change, in alphabetical order."""
        return sorted(name.removesuffix(".lora_A") for name in self._file if not name.endswith(".lora_B"))

    def tensor(self, name: str) -> torch.Tensor:
        """The fp32 change of a parameter that is stored as it is, not by factors."""
        return self._file[name]

    def factors(self, name: str) -> Factors | None:
        """The low-rank form of one parameter's change, where the expert is a LoRA adapter that changes it."""
        if f"{name}.lora_A" not in self._file:
            return None
        return Factors(self._file[f"{name}.lora_A"], self._file[f"{name}.lora_B"], self._scales[name])

    def changes(self, name: str) -> bool:
        """Whether the expert changes a parameter. Raises UserError when a whole checkpoint lacks it."""
        found = name in self._file or f"{name}.lora_A" in self._file
        if not found and not self.is_lora:
            raise UserError(f"{self.where}: no tensor '{name}', which the base has; extract the task vector again")
        return found

    def rows(self, name: str, start: int, stop: int, base: torch.Tensor) -> torch.Tensor:
        """fp32 rows of tau, zeros where a LoRA adapter leaves the parameter alone; `base`: the same rows of theta_0."""
        if not self.changes(name):
            return base.new_zeros(base.shape)
        if name in self._file:
            return self._file.rows(name, start, stop)
        down, up = f"{name}.lora_A", f"{name}.lora_B"
        return Factors(self._file[down], self._file.rows(up, start, stop), self._scales[name]).product()

    def change(self, name: str, like: torch.Tensor) -> torch.Tensor:
        """Dense fp32 change of one whole parameter, in the shape of `like`."""
        return self.rows(name, 0, row_count(tuple(like.shape)), like.float())


class ExpertVector:
    """The task vector of an expert's directory, computed as it is read: what a TaskVector's file would hold."""

    def __init__(self, expert: Expert):
        self.where = str(expert.directory)
        self.expert, self.fused = expert, expert.fused

    def factors(self, name: str) -> Factors | None:
        return self.expert.factors.get(name)

    def changes(self, name: str) -> bool:
        return not self.expert.is_adapter or name in self.expert.factors or name in self.expert.changed

    def rows(self, name: str, start: int, stop: int, base: torch.Tensor) -> torch.Tensor:
        """fp32 rows of tau; `base`: the same rows of theta_0, fp32."""
        if name in self.expert.factors:
            return self.expert.factors[name].rows(start, stop)
        if not self.changes(name):
            return base.new_zeros(base.shape)
        own = self.expert.rows(name, start, stop)
        return own.float().sub_(base)

    def change(self, name: str, like: torch.Tensor) -> torch.Tensor:
        """Dense fp32 change of one whole parameter of value `like`."""
        return self.rows(name, 0, row_count(tuple(like.shape)), like.float())
