"""Fetching bases and experts.

Names are matched here, once: a base's tensors get the names of `AutoModel`, an expert's those of its classifier; of
language models both get those of the language model. Whatever fits no parameter is listed in source.json, or is an
error.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from twin_merging.checkpoints.adapter_settings import ADAPTER_CONFIG
from twin_merging.checkpoints.adapters import ADAPTER, PICKLED_ADAPTER
from twin_merging.checkpoints.agreement import check_agreement
from twin_merging.checkpoints.architectures import load_config
from twin_merging.checkpoints.directories import (
    all_finite,
    check_finite,
    check_shape,
    save_tokenizer,
    write_config,
    write_expert,
)
from twin_merging.checkpoints.experts import Expert, is_adapter
from twin_merging.checkpoints.fused import fused_record
from twin_merging.checkpoints.groups import is_pooler
from twin_merging.checkpoints.kinds import CLASSIFIER, Classifier, WholeModel
from twin_merging.checkpoints.label_names import Names, names_of
from twin_merging.checkpoints.labels import Labels, agreed, label_axes
from twin_merging.checkpoints.opening import open_expert, with_output_of
from twin_merging.checkpoints.parameters import Architecture
from twin_merging.checkpoints.reading import read_model
from twin_merging.checkpoints.tokenizers import with_padding
from twin_merging.checkpoints.vocabularies import FILES as VOCABULARY
from twin_merging.checkpoints.vocabularies import check_tokenizers
from twin_merging.errors import UserError
from twin_merging.fetching.converted import read_source, with_tokenizer
from twin_merging.fetching.sources import located
from twin_merging.fetching.united import Tokens, aligned_expert, united_base
from twin_merging.io.files import PASSED_ON, copy_file, filled, write_json
from twin_merging.io.foreign import read_object
from twin_merging.io.sharding import ONE_FILE, Shards, write_model
from twin_merging.io.tensors import INDEX, PICKLED, PICKLED_INDEX, WEIGHTS, save_tensors, shapes_of
from twin_merging.io.weights import REPLACED, has_weights

WEIGHT_FILES = [WEIGHTS, INDEX, "model-*-of-*.safetensors",
                PICKLED, PICKLED_INDEX, "pytorch_model-*-of-*.bin"]  # fmt: skip
BASE_FILES = [*PASSED_ON, "!dict.txt", *WEIGHT_FILES]  # fairseq's dictionary, which no fast tokenizer reads
EXPERT_FILES = ["config.json", *VOCABULARY, *WEIGHT_FILES]
# An adapter may have a config.json, which names its labels.
ADAPTER_FILES = [ADAPTER_CONFIG, ADAPTER, PICKLED_ADAPTER, "config.json", *VOCABULARY]
Pins = Mapping[str, str] | None


def fetch_base(
    source: Mapping[str, Any],
    output: Path,
    pinned: Pins = None,
    *,
    whole: WholeModel = CLASSIFIER,
    shards: Shards = ONE_FILE,
    tokens: Tokens | None = None,
) -> None:
    """Write the base: the parameters that are merged, configuration, tokenizer.

    whole: what its experts are, classifiers or language models. pinned: the hash of each file, as kind:digits, of a
    source that a lock holds. shards: how the weights are written, whatever form they come in. tokens: those of its
    experts that it gets; source.json says what became of each.
    """
    output = Path(output)
    with (
        located(source, BASE_FILES, output, pinned) as (given, record),
        united_base(tokens, given, output, _files_of_expert) as (directory, vocabulary),
    ):
        record |= {"vocabulary": dict(vocabulary)} if vocabulary else {}
        found = read_source(directory, whole.architecture)
        found.check_body()
        for name in found.lacking:
            if name in found.architecture.output:
                raise UserError(f"{directory}: no tensor '{name}', which its architecture has; fetch it again")
        heads = {name: stored for name, stored in found.names.items() if name in found.architecture.head}
        body = found.tensors.without(heads)
        config, tokenizer = with_tokenizer(found)
        with filled(output):
            write_model(output, shapes_of(body), all_finite(directory, body), shards)
            save_tokenizer(tokenizer, output)
            write_config(with_padding(config, tokenizer.pad_token_id), output)
            whole.write_beside(directory, config, output)
            write_json(output / "source.json", {**record, "left_out": sorted([*found.left_out, *heads.values()])})


def _files_of_expert(source: Mapping[str, Any]) -> list[str]:
    return ADAPTER_FILES if source.get("hub", {}).get("adapter") else EXPERT_FILES


def fetch_expert(
    source: Mapping[str, Any],
    whole: WholeModel | int,
    base: Path,
    output: Path,
    pinned: Pins = None,
    allowed: Collection[str] = (),
    label_names: Names | None = None,
    shards: Shards = ONE_FILE,
    aligned: bool = False,
) -> None:
    """Write an expert under its own checkpoint's names, checked against the base's names and shapes, and with its
    labels in the order of `label_names`, the data's.

    whole: what it is; a number: a sequence classifier of so many labels. allowed: fields of its configuration that may
    differ from the base's. shards: as for `fetch_base`. aligned: whether it
    gets a row for each of the base's tokens, in the base's order (`vocabulary` of a suite).
    """
    output, whole = Path(output), Classifier(whole) if isinstance(whole, int) else whole
    with ExitStack() as stack:
        directory, record = stack.enter_context(located(source, EXPERT_FILES, output, pinned))
        if not has_weights(directory):
            hint = "; it is a PEFT adapter: say hub: {..., adapter: true}" if is_adapter(directory) else ""
            raise UserError(f"{directory}: no {WEIGHTS} or {PICKLED} in it{hint}")
        directory = stack.enter_context(aligned_expert(aligned, base, directory, output))
        check_tokenizers(base, [directory])
        start = read_model(base, whole.architecture)
        found = read_source(directory, lambda config: whole.architecture(whole.configured(config)))
        check_agreement(directory, found.config, start.config, allowed)
        labels = agreed(names_of(found.config.id2label), label_names, whole, directory)
        found.check_body()
        found.check_head(f"{_said(whole)} in the suite" if whole.head else "config.json")
        found = with_output_of(start, found)
        config = labels.configured(with_padding(whole.configured(found.config), start.config.pad_token_id))
        tensors = labels.ordered(found.tensors, label_axes(whole, config))
        record |= {"left_out": list(found.left_out), **labels.record}
        write_expert(output, found.architecture, config, tensors, base, record, where=directory, shards=shards)


def fetch_adapter(
    source: Mapping[str, Any],
    base: Path,
    output: Path,
    whole: WholeModel | int = CLASSIFIER,
    pinned: Pins = None,
    label_names: Names | None = None,
    aligned: bool = False,
) -> None:
    """Write an expert that is a PEFT LoRA adapter, checked against the base and, where known, the task's head, and with
    its labels in the order of `label_names`, the data's.

    whole, aligned: as for `fetch_expert`.
    """
    output, whole = Path(output), Classifier(whole) if isinstance(whole, int) else whole
    with ExitStack() as stack:
        directory, record = stack.enter_context(located(source, ADAPTER_FILES, output, pinned))
        if not is_adapter(directory):
            raise UserError(f"{directory}: no {ADAPTER_CONFIG} in it, which an adapter has; leave out adapter: true")
        directory = stack.enter_context(aligned_expert(aligned, base, directory, output))
        check_tokenizers(base, [directory])
        names, expert = open_expert(base, directory, whole.architecture, pickled=True)
        config, told = load_config(base), directory / "config.json"
        _check_adapter(expert, whole.architecture(config), names, _said(whole))
        own = names_of(read_object(told).get("id2label")) if told.is_file() else None
        labels = agreed(own, label_names, whole, directory)
        with filled(output):
            _write_adapter(expert, output, labels, label_axes(whole, config))
            write_json(output / "source.json", {**record, **labels.record, **fused_record(expert.fused)})


def _said(whole: WholeModel) -> str:
    """What the suite says of a task's head."""
    return ", ".join(f"{key}: {value}" for key, value in whole.head.items())


def _check_adapter(expert: Expert, architecture: Architecture, names: Collection[str], head: str) -> None:
    directory, shapes = expert.directory, architecture.head
    for name, factors in expert.factors.items():
        check_finite(directory, name, factors.down)
        check_finite(directory, name, factors.up)
    for name in expert.changed:
        check_shape(directory, name, expert.shape(name), expert.base.shape(name))
        check_finite(directory, name, expert.parameter(name))
    for name, tensor in expert.head.items():
        if name not in shapes and not is_pooler(name):
            raise UserError(f"{directory}: tensor '{name}' fits no parameter of the base; remove it or fetch again")
        if name in shapes and head:
            check_shape(directory, name, tuple(tensor.shape), shapes[name], head)
        check_finite(directory, name, tensor)
    for name in [*shapes, *(name for name in architecture.body if name not in names)]:
        if name not in expert.head:
            raise UserError(f"{directory}: no tensor '{name}' of the head; train it with modules_to_save")


def _write_adapter(expert: Expert, output: Path, labels: Labels, axes: Mapping[str, int]) -> None:
    """Its two files as they are, but safetensors for pickled tensors, the head in the order of the labels (axes: as for
    `Labels.ordered`), and the truth of how its matrices are kept."""
    source = expert.paths[0]
    is_replaced = expert.directory.joinpath(REPLACED).exists()
    if source.name == ADAPTER and labels.order is None and expert.config is None and not is_replaced:
        copy_file(source, output / ADAPTER)
    else:
        stored = {expert.stored_as(name): axis for name, axis in axes.items() if name in expert.head}
        save_tensors(output / ADAPTER, labels.ordered(expert.tensors, stored))
    file = expert.directory / ADAPTER_CONFIG
    config = expert.config or read_object(file)
    if expert.config is None and bool(config.get("fan_in_fan_out")) == expert.is_transposed:
        copy_file(file, output / ADAPTER_CONFIG)
    else:
        write_json(output / ADAPTER_CONFIG, {**config, "fan_in_fan_out": expert.is_transposed})
