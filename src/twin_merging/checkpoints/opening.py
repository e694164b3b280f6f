"""Models as people have them, opened for a merge: the base, and its experts checked against it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from twin_merging.checkpoints.experts import ADAPTER_CONFIG, Expert
from twin_merging.checkpoints.groups import HEADS, PRETRAINING, group_of
from twin_merging.checkpoints.names import INPUT_EMBEDDINGS, OUTPUT_EMBEDDINGS
from twin_merging.errors import UserError
from twin_merging.io.files import read_json
from twin_merging.io.tensors import Checkpoint, open_directory

log = logging.getLogger(__name__)


def open_models(base: Path, experts: Mapping[str, Path]) -> tuple[Checkpoint, dict[str, Expert]]:
    """The base's checkpoint without what is no part of the merge, and the experts, checked against it.

    Left out of the base: a pretraining or task head that not every expert has, and a tied copy of the embedding.
    """
    start = open_directory(base).without(tied_copies(base))
    opened = {name: _open(directory, start) for name, directory in experts.items()}
    whole = [expert for expert in opened.values() if not expert.is_adapter]
    lacking = {name for name in start if start.dtype(name).is_floating_point and not all(e.has(name) for e in whole)}
    unused = sorted(name for name in lacking if _is_head(name))
    if unused:
        log.info("%s: left out, no part of every expert: %s", base, ", ".join(unused))
        start = start.without(unused)
        opened = {name: _open(directory, start) for name, directory in experts.items()}
    for expert in opened.values():
        _check_shapes(expert, start)
    return start, opened


def _open(directory: Path, base: Checkpoint) -> Expert:
    return Expert(directory, base, () if (directory / ADAPTER_CONFIG).is_file() else tied_copies(directory))


def tied_copies(directory: Path) -> list[str]:
    """Names of output layers that a checkpoint stores although they are its input embedding again."""
    checkpoint = open_directory(directory)
    config = Path(directory) / "config.json"
    if not config.is_file():
        raise UserError(f"{directory}: no config.json in it; name a directory that holds a Hugging Face model")
    if not read_json(config).get("tie_word_embeddings", True):
        return []
    inputs = [name for name in checkpoint if name.endswith(INPUT_EMBEDDINGS)]
    outputs = [name for name in checkpoint if name.endswith(OUTPUT_EMBEDDINGS)]
    return [name for name in outputs if any(_same(checkpoint, name, other) for other in inputs)]


def _same(checkpoint: Checkpoint, one: str, other: str) -> bool:
    import torch

    if checkpoint.shape(one) != checkpoint.shape(other) or checkpoint.dtype(one) != checkpoint.dtype(other):
        return False
    return torch.equal(checkpoint[one], checkpoint[other])


def _is_head(name: str) -> bool:
    """Whether a base's parameter belongs to a head, with or without the body's prefix before it."""
    return name.startswith((*PRETRAINING, *HEADS)) or name.partition(".")[2].startswith((*PRETRAINING, *HEADS))


def _check_shapes(expert: Expert, base: Checkpoint) -> None:
    for name in base:
        if not base.dtype(name).is_floating_point or group_of(name) == "head":
            continue
        if not expert.has(name):
            if expert.is_adapter:
                continue
            raise UserError(f"{expert.directory}: no tensor '{name}', which the base has; name an expert of this base")
        own, wanted = expert.shape(name), base.shape(name)
        if own == wanted:
            continue
        if group_of(name) == "embedding" and own[1:] == wanted[1:]:
            raise UserError(
                f"{expert.directory}: tensor '{name}' has {own[0]} rows, but {wanted[0]} in the base: the vocabularies "
                "differ; resize the base's embeddings to the experts' (resize_token_embeddings), or name their own base"
            )
        raise UserError(
            f"{expert.directory}: tensor '{name}' is {list(own)}, but {list(wanted)} in the base; name an expert of "
            "this base"
        )
