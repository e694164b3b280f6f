"""The weights of a model directory, in each of the forms that they come in."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from twin_merging.errors import UserError
from twin_merging.io.foreign import read_object
from twin_merging.io.pickled import CONVERT, PickledCheckpoint
from twin_merging.io.tensors import INDEX, PICKLED, PICKLED_INDEX, WEIGHTS, Checkpoint

# A file or an index of shards, in the order in which transformers looks for them.
_FORMS = ((WEIGHTS, Checkpoint), (INDEX, Checkpoint), (PICKLED, PickledCheckpoint), (PICKLED_INDEX, PickledCheckpoint))


def has_weights(directory: Path) -> bool:
    """Whether a directory holds the weights of a whole model."""
    return any(Path(directory, name).exists() for name, _ in _FORMS)


def open_directory(directory: Path, pickled: bool = False) -> Checkpoint:
    """Open the checkpoint of a model directory: safetensors before pickled tensors, one file before shards.

    Of an index that an older save left beside a whole file the shards are not read, as transformers does not read them.
    pickled: whether pickled tensors are read where there are no others. Raises UserError that names the file when it is
    not what it should be, or when there is none.
    """
    directory = Path(directory)
    for name, kind in _FORMS:
        file = directory / name
        if not (file.exists() or file.is_symlink()):
            continue
        if kind is PickledCheckpoint and not pickled:
            raise UserError(f"{file}: {CONVERT}")
        if name == WEIGHTS and (directory / INDEX).exists():
            _named_in(directory / INDEX)
        return kind(*(_shards(file) if name.endswith(".json") else [file]))
    raise UserError(f"{directory}: no {WEIGHTS}, no {PICKLED} and no index of shards in it; name a directory that "
                    "holds a checkpoint")  # fmt: skip


def weight_files(directory: Path) -> list[Path]:
    """The files of a model's safetensors: one, or its shards and their index behind them.

    Raises UserError as `open_directory` does.
    """
    directory = Path(directory)
    if (directory / WEIGHTS).exists() or not (directory / INDEX).exists():
        return [directory / WEIGHTS]
    return [*_shards(directory / INDEX), directory / INDEX]


def _shards(index: Path) -> list[Path]:
    """The files that an index names, each beside it."""
    for name in (names := _named_in(index)):
        if not os.path.exists(index.parent / name):
            raise UserError(f"{index}: names {name!s:.80}, which is not there; fetch the checkpoint again")
    return [index.parent / name for name in names]


def _named_in(index: Path) -> list[str]:
    """The names of files in an index. Raises UserError when it is no index of files beside it."""
    places = read_object(index).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(name, str) for name in places.values()):
        raise UserError(f"{index}: no weight_map of tensors to files in it; fetch the checkpoint again")
    names = sorted(set(places.values()))
    for name in names:
        if PurePosixPath(name).name != name or name in (".", ".."):
            raise UserError(f"{index}: names {name!r:.80}, which is no file beside it; fetch the checkpoint again")
    return names
