"""Model directories as the pipeline writes them: config.json, weights, a tokenizer, and source.json.

An expert's tensors have the names of a classifier's or a language model's own checkpoint, so that transformers loads
it; the header of the file names the prefix of the body's.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin_merging.checkpoints.experts import PREFIX
from twin_merging.checkpoints.groups import group_of, is_pooler
from twin_merging.checkpoints.parameters import Architecture
from twin_merging.checkpoints.vocabularies import UNITE
from twin_merging.errors import UserError
from twin_merging.io.files import copy_file, filled, write_json
from twin_merging.io.ranges import CHUNK
from twin_merging.io.sharding import ONE_FILE, Shards, write_model
from twin_merging.io.tensors import Shapes, shapes_of
from twin_merging.io.weights import open_directory

if TYPE_CHECKING:
    import torch


def write_expert(
    output: Path,
    shapes: Architecture,
    config: Any,
    tensors: Mapping[str, torch.Tensor],
    base: Path,
    record: Mapping[str, Any],
    where: Path | None = None,
    shards: Shards = ONE_FILE,
) -> None:
    """Write an expert's directory from tensors by canonical name, after checking that they fit the base.

    shapes: of the expert's architecture, which `config` describes.

    `where` is what an error names as the expert's place; by default the output. shards: how the weights are written.
    """
    where = where or output
    own = shapes_of(tensors)
    _check_expert(where, shapes, own, base)
    config.architectures = [shapes.title]
    with filled(output):
        named = {shapes.in_model(name): found for name, found in own.items()}
        finite = all_finite(where, tensors, shapes.in_model)
        write_model(output, named, finite, shards, {PREFIX: shapes.prefix})
        write_config(config, output)
        write_json(output / "source.json", record)


def _check_expert(where: Path, shapes: Architecture, own: Shapes, base: Path) -> None:
    body = open_directory(base)
    for name in body:
        if name not in own:
            raise UserError(f"{where}: no tensor '{name}', which the base has; name an expert of this base")
    for name, (shape, _) in own.items():
        if name in body:
            check_shape(where, name, shape, body.shape(name))
        elif name not in shapes.head and not is_pooler(name):
            raise UserError(f"{where}: tensor '{name}' is not in the base; name an expert of this base")


def save_tokenizer(tokenizer: Any, output: Path) -> None:
    """Write exactly tokenizer.json and tokenizer_config.json, which has its chat templates."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder, save_jinja_files=False)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            if not Path(folder, name).is_file():
                raise UserError(f"{tokenizer.name_or_path}: its tokenizer has no {name}; only fast tokenizers are used")
            copy_file(Path(folder, name), output / name)


def write_config(config: Any, output: Path) -> None:
    """Write config.json without what names a machine's folder."""
    config.name_or_path = ""
    with tempfile.TemporaryDirectory() as folder:
        config.to_json_file(Path(folder, "config.json"))
        copy_file(Path(folder, "config.json"), output / "config.json")


def check_shape(where: Path, name: str, own: tuple[int, ...], wanted: tuple[int, ...], of: str = "the base") -> None:
    if own != tuple(wanted):
        remedy = "correct labels in the suite" if of.startswith("labels") else "name an expert of this base"
        if of == "the base" and own[1:] == tuple(wanted)[1:] and (group_of(name) == "embedding" or "lm_head" in name):
            remedy = f"where its tokenizer has more tokens, merge with {UNITE}"
        raise UserError(f"{where}: tensor '{name}' is {list(own)} in the expert, but {list(wanted)} for {of}; {remedy}")


def check_finite(where: Path, name: str, tensor: torch.Tensor) -> None:
    """Raise UserError for NaN and infinity. A sum tells cheaply that there are none; it is of a part at a time, since
    what is computed of a whole tensor takes its memory again."""
    parts = tensor.reshape(-1).split(CHUNK) if tensor.is_floating_point() else ()
    if not all(math.isfinite(part.sum()) or part.isfinite().all() for part in parts):
        raise UserError(f"{where}: tensor '{name}' holds NaN or infinity; train or fetch the model again")


def all_finite(
    where: Path, tensors: Mapping[str, torch.Tensor], named: Callable[[str], str] = str
) -> Iterator[tuple[str, torch.Tensor]]:
    """Named tensors, each checked when it is read. named: the name that one gets."""
    for name in tensors:
        tensor = tensors[name]
        check_finite(where, name, tensor)
        yield named(name), tensor
        del tensor  # before the next is read
