"""Reads and writes named tensors in safetensors files, by ranges of rows and in bounded memory."""

from __future__ import annotations

import io
import json
import math
import os
import struct
from collections import ChainMap
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from twin_merging.errors import UserError
from twin_merging.io.files import whole_file
from twin_merging.io.foreign import check_is_file, stand_in
from twin_merging.io.ranges import row_count, row_width

if TYPE_CHECKING:
    import torch

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLED = "pytorch_model.bin"
PICKLED_INDEX = "pytorch_model.bin.index.json"

_CODES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
          "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool"}  # fmt: skip

_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}

_LONGEST_HEADER = 100_000_000  # bytes; safetensors refuses a longer one

Shapes = Mapping[str, tuple[tuple[int, ...], "torch.dtype"]]
Slice = tuple[str, int, int]


@dataclass(frozen=True)
class _Place:
    """Where a tensor is: in an open file, from the byte `begin` on."""

    file: io.FileIO
    shape: tuple[int, ...]
    code: str
    begin: int


class Checkpoint(Mapping[str, "torch.Tensor"]):
    """A read-only mapping of names to the tensors of one or more safetensors files.

    A tensor is read when it is asked for, and only the rows that are asked for. Reading is safe in several threads,
    because every read names its position. The files are not memory-mapped: a memory map costs a page fault for every
    few pages, and what was read counts as the process's memory. Raises UserError that names the file if a file is
    missing, truncated or not safetensors, or if two files hold the same name.
    """

    def __init__(self, *paths: Path):
        self.paths = [Path(path) for path in paths]
        self.metadata: dict[str, str] = {}
        self._places: dict[str, _Place] = {}
        for path in self.paths:
            for name, place in _places_of(path, self.metadata).items():
                if name in self._places:
                    raise UserError(f"{path}: tensor '{name}' is in another shard too; fetch the checkpoint again")
                self._places[name] = place

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.rows(name, 0, row_count(self._places[name].shape))

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._places))

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def without(self, names: Collection[str]) -> Checkpoint:
        """The same checkpoint without some of its tensors."""
        return self.view({name: name for name in self if name not in names})

    def view(self, names: Mapping[str, str]) -> Checkpoint:
        """Some of the tensors under other names: `names` has for each name the one that it has here."""
        rest = copy(self)
        rest._places = {name: self._places[stored] for name, stored in names.items()}
        return rest

    def over(self, other: Checkpoint) -> Checkpoint:
        """The same checkpoint, but for the tensors that another one has in their place. Its paths stay its own."""
        both = copy(self)
        both._places = {**self._places, **other._places}
        return both

    def sliced(self, parts: Mapping[str, Slice]) -> Checkpoint:
        """Parts of the tensors under names of their own: of each a tensor's name here, and the first and last
        (exclusive) of its slices along the first axis. Nothing is read."""
        rest = copy(self)
        rest._places = {name: _slice_of(self._places[stored], *bounds) for name, (stored, *bounds) in parts.items()}
        return rest

    @property
    def numbers(self) -> int:
        """How many numbers all tensors hold together."""
        return sum(math.prod(place.shape) for place in self._places.values())

    def shape(self, name: str) -> tuple[int, ...]:
        return self._places[name].shape

    def format(self, name: str) -> str:
        """The format of a tensor's numbers, as float32."""
        return _CODES[self._places[name].code]

    def size(self, name: str) -> int:
        """How many bytes a tensor has."""
        return math.prod(self.shape(name)) * _BYTES[self._places[name].code]

    def dtype(self, name: str) -> torch.dtype:
        import torch

        return getattr(torch, self.format(name))

    def rows(self, name: str, start: int, stop: int) -> torch.Tensor:
        """Read the rows from `start` to `stop` (exclusive) of a tensor, and no others."""
        import torch

        place = self._places[name]
        shape = (stop - start, *place.shape[1:]) if len(place.shape) > 1 else place.shape
        tensor = torch.empty(shape, dtype=self.dtype(name))
        rest = _bytes_of(tensor)
        position = place.begin + start * row_width(place.shape) * tensor.itemsize
        while rest:
            count = _read_into(rest, place.file, position)
            if count == 0:
                raise UserError(f"{place.file.name}: ends within tensor '{name}'; it was cut off while it was read")
            rest, position = rest[count:], position + count
        return tensor


def _slice_of(place: _Place, start: int, stop: int) -> _Place:
    import torch

    size: int = getattr(torch, _CODES[place.code]).itemsize
    begin = place.begin + start * math.prod(place.shape[1:]) * size
    return _Place(place.file, (stop - start, *place.shape[1:]), place.code, begin)


def _places_of(path: Path, metadata: dict[str, str]) -> dict[str, _Place]:
    """Where each tensor of a file is. Adds the file's metadata to `metadata`. safetensors checks the file."""
    from safetensors import SafetensorError, safe_open

    check_is_file(path)
    try:
        with safe_open(path, framework="np") as handle:
            metadata |= handle.metadata() or {}
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); make it readable") from None
    except SafetensorError as error:
        fault = stand_in(path) or f"not a whole safetensors file ({_cut(path) or error}); fetch it again"
        raise UserError(f"{path}: {fault}") from None
    file = io.FileIO(path)
    length = struct.unpack("<Q", file.read(8))[0]
    header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    places = {}
    for name, entry in header.items():
        if entry["dtype"] not in _CODES:
            kinds = ", ".join(_CODES)
            raise UserError(
                f"{path}: tensor '{name}' is stored as {entry['dtype']!s:.40}, a quantised type; write the model out "
                f"in one of {kinds} (model.dequantize(), then save_pretrained)"
            )
        places[name] = _Place(file, tuple(entry["shape"]), entry["dtype"], 8 + length + entry["data_offsets"][0])
    return places


def _cut(path: Path) -> str | None:
    """How much of a file is there, where its header says that it was longer."""
    size = Path(path).stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        begin = file.read(1)
        if begin != b"{" or length > _LONGEST_HEADER:
            return None
        try:
            header = json.loads(begin + file.read(length - 1))
            whole = 8 + length + max(entry["data_offsets"][1] for name, entry in header.items() if name[:2] != "__")
        except (ValueError, RecursionError, AttributeError, TypeError, LookupError):
            whole = 8 + length
        return f"cut off: {size} of {whole} bytes" if isinstance(whole, int) and size < whole else None


class TensorWriter:
    """An open safetensors file whose header is written. Any process may write any range of rows to its place."""

    def __init__(self, descriptor: int, places: Mapping[str, int], shapes: Shapes):
        self._descriptor, self._places, self._shapes = descriptor, places, shapes
        self._written: dict[str, dict[int, int]] = {name: {} for name in shapes}

    def write(self, name: str, tensor: torch.Tensor, start: int = 0) -> None:
        """Write rows of a tensor, from row `start` on. Raises ValueError if shape or dtype differ from the header's."""
        shape, dtype = self._shapes[name]
        if tuple(tensor.shape[1:]) != tuple(shape[1:]) or tensor.dtype != dtype or tensor.dim() != len(shape):
            raise ValueError(f"{name}: {tuple(tensor.shape)} {tensor.dtype} instead of {shape} {dtype}")
        data = _bytes_of(tensor)
        position = self._places[name] + start * math.prod(shape[1:]) * dtype.itemsize
        while data:
            written = os.pwrite(self._descriptor, data, position)
            data, position = data[written:], position + written
        self.written(name, tensor.numel(), start)

    def written(self, name: str, numbers: int, start: int = 0) -> None:
        """Note how many numbers were written from a row on. Call this for rows that another process wrote."""
        self._written[name][start] = numbers

    def check_whole(self) -> None:
        """Raise ValueError if some tensor was not written whole."""
        sizes = {name: math.prod(shape) for name, (shape, _) in self._shapes.items()}
        missing = sorted(name for name, parts in self._written.items() if sum(parts.values()) != sizes[name])
        if missing:
            raise ValueError(f"{len(missing)} tensors were never written whole, {missing[0]} among them")


@contextmanager
def tensor_file(path: Path, shapes: Shapes, metadata: Mapping[str, str] | None = None) -> Iterator[TensorWriter]:
    """Yield a writer for a safetensors file. The file appears under its name when the block ends and it is whole.

    `shapes` has each tensor's shape and dtype, so that the header can be written first. The bytes of the file depend on
    the content alone, not on the order of writing.
    """
    codes = {name: code for code, name in _CODES.items()}
    offset, header, places = 0, {"__metadata__": {"format": "pt", **(metadata or {})}}, {}
    # Tensors of large numbers come first, as safetensors itself orders them, so that every tensor is aligned.
    for name in sorted(shapes, key=lambda name: (-shapes[name][1].itemsize, name)):
        shape, dtype = shapes[name]
        end = offset + math.prod(shape) * dtype.itemsize
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
        stream.flush()
        stream.truncate(8 + len(text) + offset)
        writer = TensorWriter(stream.fileno(), {name: 8 + len(text) + at for name, at in places.items()}, shapes)
        yield writer
        writer.check_whole()


def write_tensors(
    path: Path, shapes: Shapes, tensors: Iterable[tuple[str, torch.Tensor]], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file from tensors that come one at a time, in any order. Memory holds only one of them."""
    with tensor_file(path, shapes, metadata) as file:
        for name, tensor in tensors:
            file.write(name, tensor)
            del tensor  # before the next is read


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file from tensors that are in memory, or from a checkpoint's, which are read one by one."""
    write_tensors(path, shapes_of(tensors), tensors.items(), metadata)


def shapes_of(tensors: Mapping[str, torch.Tensor]) -> Shapes:
    """The shape and dtype of each tensor. Of a checkpoint's tensors, also behind others in a ChainMap, none is read."""
    if isinstance(tensors, Checkpoint):
        return {name: (tensors.shape(name), tensors.dtype(name)) for name in tensors}
    if isinstance(tensors, ChainMap):
        return {name: shape for part in reversed(tensors.maps) for name, shape in shapes_of(part).items()}
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}


def _read_into(memory: memoryview, file: io.FileIO, position: int) -> int:
    """Read from a position of a file, and return how many bytes were read. Other readers of the file do not matter."""
    if hasattr(os, "preadv"):
        return os.preadv(file.fileno(), [memory], position)
    data = os.pread(file.fileno(), len(memory), position)
    memory[: len(data)] = data
    return len(data)


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy())  # type: ignore[arg-type]
