"""Pickled checkpoints, of which tensors are read and no code is run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING

from twin_merging.errors import UserError, first_line
from twin_merging.io.foreign import check_is_file, stand_in
from twin_merging.io.tensors import Checkpoint, Slice

if TYPE_CHECKING:
    import torch


# What is said of a pickled checkpoint where only safetensors are read.
CONVERT = (
    "pickled, and a merge reads safetensors only; convert it: safetensors.torch.save_file(torch.load('NAME.bin', "
    "weights_only=True), 'NAME.safetensors')"
)


def read_pickled(file: Path) -> Mapping[str, torch.Tensor]:
    """Named tensors of a file that `torch.save` made, mapped where its format allows. Raises UserError, naming the
    file, when it is cut off, holds anything else, or would need code to be run."""
    import pickle
    import zipfile

    import torch

    check_is_file(file)
    try:
        content = torch.load(file, weights_only=True, map_location="cpu", mmap=zipfile.is_zipfile(file))
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
    ) as error:
        found = stand_in(file)
        if found is None or "torch.save" in found:
            found = f"refused, it is not a whole file of plain tensors: {first_line(error)}"
        raise UserError(f"{file}: {found}") from None
    if not isinstance(content, Mapping) or not all(
        isinstance(name, str) and isinstance(part, torch.Tensor) for name, part in content.items()
    ):
        raise UserError(f"{file}: holds more than named tensors; save the model's state_dict() alone")
    return content


class PickledCheckpoint(Checkpoint):
    """The tensors of one or more files that `torch.save` made, as a Checkpoint gives them."""

    def __init__(self, *paths: Path):
        self.paths = [Path(path) for path in paths]
        self.metadata: dict[str, str] = {}
        self._tensors: dict[str, torch.Tensor] = {}
        for path in self.paths:
            for name, tensor in read_pickled(path).items():
                if name in self._tensors:
                    raise UserError(f"{path}: tensor '{name}' is in another shard too; fetch the checkpoint again")
                self._tensors[name] = tensor.detach()

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._tensors))

    def __len__(self) -> int:
        return len(self._tensors)

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def view(self, names: Mapping[str, str]) -> Checkpoint:
        rest = copy(self)
        rest._tensors = {name: self._tensors[stored] for name, stored in names.items()}
        return rest

    def sliced(self, parts: Mapping[str, Slice]) -> Checkpoint:
        rest = copy(self)
        rest._tensors = {name: self._tensors[stored][start:stop] for name, (stored, start, stop) in parts.items()}
        return rest

    @property
    def numbers(self) -> int:
        return sum(tensor.numel() for tensor in self._tensors.values())

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._tensors[name].shape)

    def dtype(self, name: str) -> torch.dtype:
        return self._tensors[name].dtype

    def rows(self, name: str, start: int, stop: int) -> torch.Tensor:
        tensor = self._tensors[name]
        return tensor[start:stop] if tensor.dim() > 1 else tensor
