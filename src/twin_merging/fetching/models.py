"""Fetching bases and experts.

Names are matched here, once: a base's tensors get the names of `AutoModel`, an expert's those of its classifier; of
language models both get those of the language model. Whatever fits no parameter is listed in source.json, or is an
error.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin_merging.checkpoints.architectures import Architecture, load_config
from twin_merging.checkpoints.directories import check_finite, check_shape, save_tokenizer, write_config, write_expert
from twin_merging.checkpoints.experts import ADAPTER, ADAPTER_CONFIG, Expert
from twin_merging.checkpoints.groups import HEADS, is_pooler
from twin_merging.checkpoints.kinds import CLASSIFIER, WholeModel
from twin_merging.checkpoints.names import INPUT_EMBEDDINGS, OUTPUT_EMBEDDINGS
from twin_merging.checkpoints.tokenizers import load_tokenizer, with_padding
from twin_merging.checkpoints.vocabularies import FILES as VOCABULARY
from twin_merging.checkpoints.vocabularies import check_tokenizers
from twin_merging.errors import UserError
from twin_merging.fetching.pickled import read_pickled
from twin_merging.fetching.sources import located
from twin_merging.io.files import PASSED_ON, copy_file, read_json, write_json
from twin_merging.io.tensors import INDEX, PICKLED, PICKLED_INDEX, WEIGHTS, open_directory, save_tensors

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

ADAPTER_PARTS = (ADAPTER_CONFIG, ADAPTER)
WEIGHT_FILES = [WEIGHTS, INDEX, "model-*-of-*.safetensors",
                PICKLED, PICKLED_INDEX, "pytorch_model-*-of-*.bin"]  # fmt: skip
BASE_FILES = [*PASSED_ON, "!dict.txt", *WEIGHT_FILES]  # fairseq's dictionary, which no fast tokenizer reads
EXPERT_FILES = ["config.json", *VOCABULARY, *WEIGHT_FILES]
ADAPTER_FILES = [*ADAPTER_PARTS, *VOCABULARY]
Pins = Mapping[str, str] | None


def fetch_base(source: Mapping[str, Any], output: Path, pinned: Pins = None, *, whole: WholeModel = CLASSIFIER) -> None:
    """Write the base: the parameters that are merged, configuration, tokenizer.

    whole: what its experts are, classifiers or language models. pinned: the hash of each file, as kind:digits, of a
    source that a lock holds.
    """
    output = Path(output)
    with located(source, BASE_FILES, output, pinned) as (directory, record):
        config = load_config(directory)
        shapes = whole.architecture(config)
        found, left_out = _matched(directory, shapes, (*whole.unused, *HEADS))
        body = {name: tensor for name, tensor in found.items() if name in shapes.body}
        for name, shape in shapes.body.items():
            if name in body:
                _check_base(directory, name, body[name], shape)
            elif not name.startswith("pooler."):
                raise UserError(f"{directory}: the base lacks tensor '{name}' of its architecture; fetch it again")
        tokenizer = load_tokenizer(directory)
        save_tokenizer(tokenizer, output)
        write_config(with_padding(config, tokenizer.pad_token_id), output)
        save_tensors(output / WEIGHTS, body)
        heads = [name for name in found if name in shapes.head]
        write_json(output / "source.json", {**record, "left_out": sorted([*left_out, *heads])})


def fetch_expert(source: Mapping[str, Any], whole: WholeModel, base: Path, output: Path, pinned: Pins = None) -> None:
    """Write an expert under its own checkpoint's names, checked against the base's names and shapes."""
    output = Path(output)
    with located(source, EXPERT_FILES, output, pinned) as (directory, record):
        if not any((directory / name).is_file() for name in (WEIGHTS, INDEX, PICKLED, PICKLED_INDEX)):
            hint = "; it is a PEFT adapter: say hub: {..., adapter: true}" if (directory / ADAPTER).is_file() else ""
            raise UserError(f"{directory}: no {WEIGHTS} or {PICKLED} in it{hint}")
        check_tokenizers(base, [directory])
        config = with_padding(whole.configured(load_config(directory)), load_config(base).pad_token_id)
        shapes = whole.architecture(config)
        found, left_out = _matched(directory, shapes, whole.unused)
        write_expert(output, shapes, config, found, base, {**record, "left_out": left_out}, where=directory)


def fetch_adapter(source: Mapping[str, Any], whole: WholeModel, base: Path, output: Path, pinned: Pins = None) -> None:
    """Write an expert that is a PEFT LoRA adapter, checked against the base and, where known, the task's head."""
    output = Path(output)
    with located(source, ADAPTER_FILES, output, pinned) as (directory, record):
        for name in ADAPTER_PARTS:
            if not (directory / name).is_file():
                raise UserError(f"{directory}: no {name} in it, which an adapter has; leave out adapter: true")
        check_tokenizers(base, [directory])
        _check_adapter(directory, base, whole)
        for name in ADAPTER_PARTS:
            copy_file(directory / name, output / name)
        write_json(output / "source.json", record)


def _check_adapter(directory: Path, base: Path, whole: WholeModel) -> None:
    expert = Expert(directory, open_directory(base))
    architecture = whole.architecture(load_config(base))
    head = ", ".join(f"{key}: {value}" for key, value in whole.head.items())
    shapes = architecture.head
    for name, factors in expert.factors.items():
        check_shape(directory, name, tuple(factors.product().shape), expert.base.shape(name))
        check_finite(directory, name, factors.product())
    for name in expert.changed:
        check_shape(directory, name, tuple(expert.parameter(name).shape), expert.base.shape(name))
        check_finite(directory, name, expert.parameter(name))
    for name, tensor in expert.head.items():
        if name not in shapes and not is_pooler(name):
            raise UserError(f"{directory}: tensor '{name}' fits no parameter of the base; remove it or fetch again")
        if name in shapes and head:
            check_shape(directory, name, tuple(tensor.shape), shapes[name], head)
        check_finite(directory, name, tensor)
    for name in [*shapes, *(name for name in architecture.body if name not in expert.base)]:
        if name not in expert.head:
            raise UserError(f"{directory}: no tensor '{name}' of the head; train it with modules_to_save")


def _check_base(directory: Path, name: str, tensor: torch.Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise UserError(
            f"{directory}: tensor '{name}' is {list(tensor.shape)}, but config.json says {list(shape)}; fetch it again"
        )
    check_finite(directory, name, tensor)


def _matched(
    directory: Path, shapes: Architecture, unused: tuple[str, ...]
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Tensors of a checkpoint by canonical name, and the names of those that are `unused`: buffers, beginnings of
    names that no model of the kind has, and an output layer that is the embedding again."""
    found: dict[str, torch.Tensor] = {}
    outputs: dict[str, torch.Tensor] = {}
    left_out = []
    for name, tensor in _tensors(directory):
        known = shapes.canonical(name)
        if known in found:
            raise UserError(f"{directory}: tensor '{name}' is there under another name too; remove one of them")
        if known in shapes.body or known in shapes.head:
            found[known] = tensor
        elif not tensor.is_floating_point() or known.startswith(unused) or name.startswith(unused):
            left_out.append(name)
        elif known.endswith(OUTPUT_EMBEDDINGS):
            outputs[name] = tensor
        else:
            raise UserError(
                f"{directory}: tensor '{name}' fits no parameter of its architecture; remove it or fetch again"
            )
    for name, tensor in outputs.items():
        if not any(tensor.equal(found[other]) for other in found if other.endswith(INPUT_EMBEDDINGS)):
            raise UserError(
                f"{directory}: tensor '{name}' is not the embedding, which config.json ties it to; set "
                "tie_word_embeddings: false there"
            )
        left_out.append(name)
    if left_out:
        log.info("%s: left out, no part of the model: %s", directory, ", ".join(left_out))
    return found, sorted(left_out)


def _tensors(directory: Path) -> Iterator[tuple[str, torch.Tensor]]:
    if (directory / WEIGHTS).is_file() or (directory / INDEX).is_file():
        yield from open_directory(directory).items()
        return
    shards = [directory / PICKLED]
    if (directory / PICKLED_INDEX).is_file():
        try:
            index = read_json(directory / PICKLED_INDEX)["weight_map"]
            shards = [directory / name for name in sorted(set(index.values()))]
        except (ValueError, KeyError, AttributeError, TypeError):
            raise UserError(f"{directory / PICKLED_INDEX}: not an index of shards; fetch the model again") from None
    for shard in shards:
        if not shard.is_file():
            raise UserError(f"{shard}: no such file; a checkpoint is {WEIGHTS}, {PICKLED}, or shards of either")
        yield from read_pickled(shard).items()
