"""Reading and writing named tensors, one at a time, in safetensors files."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin_merging.errors import UserError
from twin_merging.files import read_json, whole_file

if TYPE_CHECKING:
    import torch

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLED = "pytorch_model.bin"
PICKLED_INDEX = "pytorch_model.bin.index.json"

_CODES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
          "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool"}  # fmt: skip


class Checkpoint(Mapping[str, "torch.Tensor"]):
    """A read-only mapping of names to tensors over memory-mapped safetensors files, one or many.

    Nothing is read before it is asked for. Raises UserError, naming the file, when a file is missing,
    truncated or not safetensors, and when two files hold one name.
    """

    def __init__(self, *paths: Path):
        self.paths = [Path(path) for path in paths]
        self._where: dict[str, Any] = {}
        self.metadata: dict[str, str] = {}
        for path in self.paths:
            handle = _open(path)
            self.metadata |= handle.metadata() or {}
            for name in handle.keys():  # noqa: SIM118 (not a dict)
                if name in self._where:
                    raise UserError(f"{path}: tensor '{name}' is in another shard too; fetch the checkpoint again")
                self._where[name] = handle

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self._where:
            raise KeyError(name)
        return self._where[name].get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._where))

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, name: object) -> bool:
        return name in self._where

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._where[name].get_slice(name).get_shape())

    def dtype(self, name: str) -> torch.dtype:
        import torch

        return getattr(torch, _CODES[self._where[name].get_slice(name).get_dtype()])

    def rows(self, name: str, start: int, stop: int) -> torch.Tensor:
        """Rows start to stop of a tensor, without reading the others."""
        return self._where[name].get_slice(name)[start:stop]


def open_directory(directory: Path) -> Checkpoint:
    """The safetensors checkpoint (one file, or shards and their index) of a model directory."""
    directory = Path(directory)
    if (directory / INDEX).is_file():
        shards = sorted(set(read_json(directory / INDEX)["weight_map"].values()))
        return Checkpoint(*(directory / shard for shard in shards))
    if (directory / WEIGHTS).is_file():
        return Checkpoint(directory / WEIGHTS)
    raise UserError(f"{directory}: no {WEIGHTS} or {INDEX} in it; name a directory that holds a checkpoint")


def _open(path: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise UserError(f"{path}: no such file; fetch the checkpoint again")
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise UserError(f"{path}: not a whole safetensors file ({error}); fetch it again") from None


def write_tensors(
    path: Path,
    shapes: Mapping[str, tuple[tuple[int, ...], torch.dtype]],
    tensors: Iterable[tuple[str, torch.Tensor]],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a safetensors file whose header is known before its tensors are.

    `shapes` gives each tensor's shape and dtype; `tensors` yields every one of them once, in any order, and each
    is written in its place at once, so that memory holds one tensor. Bytes depend on the content alone.
    """
    codes = {name: code for code, name in _CODES.items()}
    offset, header, places = 0, {"__metadata__": {"format": "pt", **(metadata or {})}}, {}
    for name in sorted(shapes):
        shape, dtype = shapes[name]
        end = offset + _count(shape) * dtype.itemsize
        entry = {
            "dtype": codes[str(dtype).removeprefix("torch.")],
            "shape": list(shape),
            "data_offsets": [offset, end],
        }
        header[name], places[name], offset = entry, offset, end  # type: ignore[assignment]
    text = json.dumps(header, separators=(",", ":"), sort_keys=True).encode()
    text += b" " * (-len(text) % 8)
    with whole_file(path) as partial, open(partial, "wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        stream.truncate(8 + len(text) + offset)
        for name, tensor in tensors:
            shape, dtype = shapes[name]
            if tuple(tensor.shape) != tuple(shape) or tensor.dtype != dtype:
                raise ValueError(f"{name}: {tuple(tensor.shape)} {tensor.dtype} instead of {shape} {dtype}")
            stream.seek(8 + len(text) + places.pop(name))
            stream.write(_bytes_of(tensor))
        if places:
            raise ValueError(f"{len(places)} tensors of {path} were never written, {min(places)} among them")


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors that are all at hand (see write_tensors)."""
    shapes = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
    write_tensors(path, shapes, tensors.items(), metadata)


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy())  # type: ignore[arg-type]
