"""Pickled checkpoints, of which tensors are read and no code is run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from twin_merging.errors import UserError

if TYPE_CHECKING:
    import torch


def read_pickled(file: Path) -> Mapping[str, torch.Tensor]:
    """Named tensors of a file that `torch.save` made, mapped where its format allows. Raises UserError, naming the
    file, when it is cut off, holds anything else, or would need code to be run."""
    import pickle
    import zipfile

    import torch

    try:
        content = torch.load(file, weights_only=True, map_location="cpu", mmap=zipfile.is_zipfile(file))
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        first = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{file}: refused, it is not a whole file of plain tensors: {first}") from None
    if not isinstance(content, Mapping) or not all(isinstance(part, torch.Tensor) for part in content.values()):
        raise UserError(f"{file}: holds more than named tensors; save the model's state_dict() alone")
    return content
