"""How large a model in a local folder or an installed package is, by the headers of its files."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twin_merging.checkpoints.adapter_settings import ADAPTER_CONFIG
from twin_merging.errors import UserError
from twin_merging.io.files import read_json
from twin_merging.io.foreign import is_gguf
from twin_merging.io.tensors import Checkpoint
from twin_merging.plan.shapes import Shape, nearest, of_configuration

_WEIGHTS = ("*.safetensors", "*.bin")
_BITS_OF_GGUF = 5  # bits of a number in a quantised file; it is written in float32


@dataclass(frozen=True)
class LocalModel:
    """bytes: of its files. stored: bytes of a number once it is fetched."""

    bytes: int
    shape: Shape
    stored: int


def local_model(folder: Path | None, decoder: bool) -> LocalModel | None:
    """A model in a folder, or in a GGUF file; None where there is none. What is wrong with one the fetch says."""
    if folder is None:
        return None
    if folder.is_file() and is_gguf(folder):
        size = folder.stat().st_size
        return LocalModel(size, nearest(size * 8 // _BITS_OF_GGUF, decoder), 4)
    files = [file for pattern in _WEIGHTS for file in sorted(folder.glob(pattern)) if file.is_file()]
    if not files:
        return None
    tensors = [file for file in files if file.suffix == ".safetensors"]
    counted = _numbers(tensors)
    size = sum(file.stat().st_size for file in tensors or files)
    numbers = counted or size // (2 if decoder else 4)
    shape = of_configuration(_content(folder / "config.json"), numbers, decoder)
    return LocalModel(size, shape, max(1, round(size / max(1, numbers))))


def local_rank(folder: Path | None) -> int | None:
    """The rank of the LoRA adapter in a folder; None where its configuration does not say it."""
    rank = _content(folder / ADAPTER_CONFIG).get("r") if folder is not None else None
    return rank if isinstance(rank, int) and rank > 0 else None


def folder_bytes(folder: str) -> int:
    """Bytes of the files in a folder; 0 where there is none."""
    path = Path(folder)
    return sum(file.stat().st_size for file in path.iterdir() if file.is_file()) if path.is_dir() else 0


def _numbers(files: list[Path]) -> int:
    """Numbers of safetensors files, by their headers; 0 where one cannot be read."""
    try:
        checkpoint = Checkpoint(*files)
        return sum(math.prod(checkpoint.shape(name)) for name in checkpoint)
    except (UserError, OSError):
        return 0


def _content(file: Path) -> dict[str, Any]:
    try:
        found = read_json(file) if file.is_file() else {}
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
