"""A model's weights in one file, or in shards of a limited size with an index, as the Hub wants them.

    model.safetensors                                                        one file
    model-00001-of-00003.safetensors, ..., model.safetensors.index.json      shards; the index says where each tensor is

Which tensor lies in which shard depends on names, sizes and the asked shards alone.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin_merging.errors import UserError
from twin_merging.io.files import link_file, write_json
from twin_merging.io.partials import remove
from twin_merging.io.sizes import bytes_of, human_bytes
from twin_merging.io.tensors import INDEX, WEIGHTS, Shapes, TensorWriter, shapes_of, tensor_file
from twin_merging.io.weights import weight_files

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

LIMIT = 5 * 10**9  # bytes of a shard's tensors
_SHARD = re.compile(r"model-\d{5,}-of-\d{5,}\.safetensors")

Sizes = Mapping[str, int]  # by tensor, its bytes


@dataclass(frozen=True)
class Shards:
    """How a model's weights are written: in as few shards of at most `limit` bytes as hold them, or in just `count`.

    With a count, an error or a warning names the key of a suite from which the count came.
    """

    limit: int = LIMIT
    count: int | None = None

    @classmethod
    def of(cls, limit: int | str) -> Shards:
        """By the limit, in bytes or as "5GB". Raises UserError for what is none."""
        try:
            return cls(byte_count(limit))
        except ValueError as error:
            raise UserError(f"max_shard_size: {error}") from None

    @classmethod
    def of_settings(cls, settings: Mapping[str, Any]) -> Shards:
        """As the settings of a workflow's job say; one file where they say nothing."""
        return cls(**settings["shards"]) if "shards" in settings else ONE_FILE


ONE_FILE = Shards(count=1)


def byte_count(size: int | str) -> int:
    """How many bytes "5GB", "500MB", "2GiB" or a whole number are. Raises ValueError for anything else, and for 0."""
    number = int(size) if str(size).isdigit() else bytes_of(str(size))
    if number < 1:
        raise ValueError(f"'{size}' holds nothing; write a size such as 5GB")
    return number


def file_names(count: int) -> list[str]:
    """The names of the files that hold weights in so many shards, the index last."""
    if count == 1:
        return [WEIGHTS]
    return [*(f"model-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)), INDEX]


# -- which tensor lies where


def packed(sizes: Sizes, shards: Shards) -> list[list[str]]:
    """The names in each shard: in their order, a shard filled about as much as another.

    A tensor above the limit has a shard of its own. Where a given count is too few for that order, larger tensors are
    placed first, each where least lies. Raises UserError where the count cannot hold the model within the limit.
    """
    names = sorted(sizes, key=_natural)
    total, limit, count = sum(sizes.values()), shards.limit, shards.count
    if count == 1 or not names:
        if total > limit:
            log.warning(
                "%s of weights are written as one file, larger than %s; say base: {size: %dB} in the suite, and "
                "they are written in shards", human_bytes(total), human_bytes(limit), total
            )  # fmt: skip
        return [names]
    if count is None:
        count = len(_filled(names, sizes, limit, limit))
    found = _in_order(names, sizes, limit, count) or _largest_first(names, sizes, limit, count)
    if found is None:
        least = len(_filled(names, sizes, limit, limit))
        raise UserError(
            f"{total} bytes of weights in {len(names)} tensors do not make {count} shards of at most {limit} bytes, "
            f"but {least}; say base: {{size: {max(total, (least - 1) * limit + 1)}B}} in the suite"
        )
    return found


def _natural(name: str) -> list[tuple[int, str]]:
    """A key by which layer 2 comes before layer 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _filled(names: Sequence[str], sizes: Sizes, limit: int, capacity: int) -> list[list[str]]:
    """Shards filled one after another up to `capacity`; a tensor above `limit` has one of its own."""
    found: list[list[str]] = [[]]
    held, is_closed = 0, False
    for name in names:
        alone = sizes[name] > limit
        if found[-1] and (alone or is_closed or held + sizes[name] > capacity):
            found.append([])
            held = 0
        found[-1].append(name)
        held, is_closed = held + sizes[name], alone
    return found


def _in_order(names: Sequence[str], sizes: Sizes, limit: int, count: int) -> list[list[str]] | None:
    """Shards of neighbours, the fullest as empty as can be; None where so many do not hold them, or have too few."""
    low = max((size for size in sizes.values() if size <= limit), default=0)
    if len(names) < count or len(_filled(names, sizes, limit, limit)) > count:
        return None
    high = limit
    while low < high:
        middle = (low + high) // 2
        if len(_filled(names, sizes, limit, middle)) <= count:
            high = middle
        else:
            low = middle + 1
    found = _filled(names, sizes, limit, low)
    while len(found) < count:  # a large tensor leaves the others room in fewer
        number = max(
            (n for n, own in enumerate(found) if len(own) > 1), key=lambda n: sum(sizes[name] for name in found[n])
        )
        found[number : number + 1] = _halves(found[number], sizes)
    return found


def _halves(names: list[str], sizes: Sizes) -> list[list[str]]:
    half, held, place = sum(sizes[name] for name in names) / 2, 0, 0
    while place < len(names) - 1 and held < half:
        held, place = held + sizes[names[place]], place + 1
    return [names[: max(place, 1)], names[max(place, 1) :]]


def _largest_first(names: Sequence[str], sizes: Sizes, limit: int, count: int) -> list[list[str]] | None:
    alone = [[name] for name in names if sizes[name] > limit]
    bins: list[list[str]] = [[] for _ in range(count - len(alone))]
    rest = sorted((name for name in names if sizes[name] <= limit), key=lambda name: -sizes[name])  # stable
    if len(rest) < len(bins) or (rest and not bins):
        return None
    held = [0] * len(bins)
    for name in rest:
        least = held.index(min(held))
        bins[least].append(name)
        held[least] += sizes[name]
    return None if max(held, default=0) > limit else [*alone, *(sorted(own, key=_natural) for own in bins)]


# -- writing


class ShardWriter:
    """Open shards. Any process may write any range of rows of any tensor to its place, as with a TensorWriter."""

    def __init__(self, files: Mapping[str, TensorWriter]):
        self._files = files

    def write(self, name: str, tensor: torch.Tensor, start: int = 0) -> None:
        self._files[name].write(name, tensor, start)

    def written(self, name: str, numbers: int, start: int = 0) -> None:
        self._files[name].written(name, numbers, start)


@contextmanager
def model_file(
    directory: Path, shapes: Shapes, shards: Shards, metadata: Mapping[str, str] | None = None
) -> Iterator[TensorWriter | ShardWriter]:
    """Yield a writer for a model's weights in `directory`. They appear when the block ends and all are whole: all of
    their files or none, and the index last. Weights in another form that lay there are removed then.

    shapes, metadata: as for `tensor_file`; every shard has the metadata.
    """
    directory = Path(directory)
    sizes = {name: math.prod(shape) * dtype.itemsize for name, (shape, dtype) in shapes.items()}
    parts = packed(sizes, shards)
    names = file_names(len(parts))
    if len(parts) == 1:
        with tensor_file(directory / WEIGHTS, shapes, metadata) as file:
            yield file
    else:
        try:
            with ExitStack() as stack:
                files: dict[str, TensorWriter] = {}
                for shard, own in zip(names, parts, strict=False):
                    writer = tensor_file(directory / shard, {name: shapes[name] for name in own}, metadata)
                    files |= dict.fromkeys(own, stack.enter_context(writer))
                yield ShardWriter(files)
                for part in set(files.values()):
                    part.check_whole()
            write_json(directory / INDEX, _index(names, parts, sizes))
        except BaseException:
            for name in names:
                remove(directory / name)
            raise
    _remove_others(directory, names)


def write_model(
    directory: Path,
    shapes: Shapes,
    tensors: Iterable[tuple[str, torch.Tensor]],
    shards: Shards,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a model's weights from tensors that come one at a time, in any order. Memory holds only one of them."""
    with model_file(directory, shapes, shards, metadata) as file:
        for name, tensor in tensors:
            file.write(name, tensor)
            del tensor  # before the next is read


def save_model(directory: Path, tensors: Mapping[str, torch.Tensor], shards: Shards) -> None:
    """Write a model's weights from tensors that are in memory."""
    write_model(directory, shapes_of(tensors), tensors.items(), shards)


def link_weights(source: Path, target: Path) -> None:
    """Give a model's weights second names in another directory, in the form that they have (`link_file`)."""
    files = weight_files(source)
    for file in files:
        link_file(file, Path(target) / file.name)
    _remove_others(target, [file.name for file in files])


def _index(names: Sequence[str], parts: Sequence[Sequence[str]], sizes: Sizes) -> dict[str, object]:
    places = {name: shard for shard, own in zip(names, parts, strict=False) for name in own}
    return {"metadata": {"total_size": sum(sizes.values())}, "weight_map": dict(sorted(places.items()))}


def _remove_others(directory: Path, kept: Sequence[str]) -> None:
    for file in Path(directory).iterdir():
        if file.name not in kept and (file.name in (WEIGHTS, INDEX) or _SHARD.fullmatch(file.name)):
            remove(file)
