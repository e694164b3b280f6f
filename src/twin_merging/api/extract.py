"""A PEFT LoRA adapter of a full fine-tune, with its error."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from twin_merging.checkpoints.adapter_settings import ADAPTER_CONFIG
from twin_merging.checkpoints.adapters import ADAPTER
from twin_merging.checkpoints.classes import TRAINED_ON
from twin_merging.checkpoints.experts import Expert, is_adapter
from twin_merging.checkpoints.opening import open_models
from twin_merging.checkpoints.parameters import Architecture
from twin_merging.checkpoints.reading import place_of, read_model
from twin_merging.checkpoints.vocabularies import check_tokenizers
from twin_merging.errors import UserError, unknown
from twin_merging.io.files import copy_file, whole_directory, write_json
from twin_merging.io.tensors import save_tensors
from twin_merging.model.adapters import lora_config
from twin_merging.model.extraction import Extraction, extract, saved

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

SAVED = ("norm", "bias", "embedding", "other")  # groups of what is no linear layer
RECORD = "extraction.json"
_STEM = "base_model.model."


def extract_lora(
    base: str | Path,
    model: str | Path,
    output: str | Path,
    *,
    rank: int | None = None,
    fraction: float | None = None,
    energy: float | None = None,
    save: Collection[str] = (),
    threads: int | None = None,
    allow_differences: Collection[str] = (),
) -> Extraction:
    """Write a fine-tuned model as a PEFT LoRA adapter on its base into a new directory, and give its errors.

    theta - theta_0 of each linear layer is cut by SVD: to `rank`, to a `fraction` of the full rank, or to the least
    rank that keeps `energy` of its squared norm (one of the three). A head that the base lacks is stored whole
    (modules_to_save). save: groups of what is no linear layer (norm, bias, embedding, other) that are stored whole too;
    the rest is left out. extraction.json beside the adapter has the errors, and the share of what is left out.

    Raises UserError for a model that is not of this base, an adapter, or sizes that are none.
    """
    base, model, output = Path(base), Path(model), Path(output)
    sizes = _sizes(rank=rank, fraction=fraction, energy=energy)
    for group in save:
        if group not in SAVED:
            raise UserError(f"save: {unknown('group', group, SAVED)}")
    if output.exists():
        raise UserError(f"{output}: exists; name a new directory")
    if is_adapter(model):
        raise UserError(f"{model}: a PEFT adapter already; name a full fine-tune, or merge it into its base first")
    start, opened = open_models(base, {"model": model}, allow_differences)
    check_tokenizers(base, [model])
    expert = opened["model"]
    architecture = read_model(model).architecture
    names = {name: _own_name(architecture, name) for name in start}
    linear = {
        name: place.name in architecture.transposed
        for name in start
        if (place := place_of(architecture, name)) is not None and place.name in architecture.linear
    }
    found = extract(expert, linear, sizes, threads or os.cpu_count() or 1)
    if not found.layers:
        raise UserError(f"{model}: has no linear layer that is not as in {base}, so that there is nothing to extract; "
                        "name a model that was fine-tuned from this base")  # fmt: skip
    form = _Form(architecture, names, expert)
    whole = form.modules_of([one.name for one in found.others if one.group in save])
    biases = form.biases if "bias" in save else []
    found = saved(found, {name for name in names if form.module(name) in whole} | set(biases))
    with whole_directory(output, replace=False) as partial:
        form.write(found, whole, biases, partial, str(base))
        write_json(partial / RECORD, found.record())
        if expert.labels is not None:
            copy_file(model / "config.json", partial / "config.json")  # which names the labels
    return found


def _sizes(**given: float | None) -> dict[str, float]:
    sizes = {name: value for name, value in given.items() if value is not None}
    if len(sizes) != 1:
        raise UserError("rank, fraction, energy: give exactly one of the three")
    ((name, value),) = sizes.items()
    if not (value >= 1 and value == int(value) if name == "rank" else 0 < value <= 1):
        wanted = "a whole number from 1" if name == "rank" else "above 0 and at most 1"
        raise UserError(f"{name}: {value} is not {wanted}")
    return sizes


def _own_name(architecture: Architecture, name: str) -> str:
    """The name of a parameter in the model that PEFT adapts."""
    place = place_of(architecture, name)
    return name if place is None or place.kind != "own" else architecture.in_model(place.name)


class _Form:
    """How an adapter on a model's class is written. names: by the base's name of a parameter the model's own."""

    def __init__(self, architecture: Architecture, names: Mapping[str, str], expert: Expert):
        self.architecture, self.names, self.expert = architecture, names, expert
        self._linear = {architecture.in_model(name).rpartition(".")[0] for name in architecture.linear}

    def module(self, name: str) -> str:
        """The module that a parameter is in."""
        return self.names[name].rpartition(".")[0]

    def modules_of(self, names: Collection[str]) -> list[str]:
        """Modules of parameters that are no linear layers, and hold no other modules: those that PEFT can save."""
        found = {self.module(name) for name in names} - self._linear - {""}
        return sorted(one for one in found if not any(other.startswith(f"{one}.") for other in self._modules))

    @property
    def _modules(self) -> set[str]:
        return {name.rpartition(".")[0] for name in self.names.values()}

    @property
    def biases(self) -> list[str]:
        """The base's names of linear layers' biases."""
        return [name for name in self.names if name.endswith(".bias") and self.module(name) in self._linear]

    def write(
        self, found: Extraction, whole: Collection[str], biases: Collection[str], output: Path, base: str
    ) -> None:
        tensors: dict[str, torch.Tensor] = {}
        ranks = {self.module(one.name): one.rank for one in found.layers}
        for one in found.layers:
            module = self.module(one.name)
            tensors[f"{_STEM}{module}.lora_A.weight"], tensors[f"{_STEM}{module}.lora_B.weight"] = one.down, one.up
        for name in biases:
            module = self.module(name)
            inner = f"{module}.base_layer" if module in ranks else module
            tensors[f"{_STEM}{inner}.bias"] = self.expert.parameter(name)
        for name, own in self.names.items():
            if own.rpartition(".")[0] in whole:
                tensors[f"{_STEM}{own}"] = self.expert.parameter(name)
        for copy, of in self.architecture.copies.items():  # PEFT wants both of what is tied
            stored = tensors.get(f"{_STEM}{self.architecture.in_model(of)}")
            if stored is not None:
                tensors[f"{_STEM}{self.architecture.in_model(copy)}"] = stored
        heads = set()
        for name, value in self.expert.head.items():
            own = self.architecture.in_model(name)
            heads.add(own.partition(".")[0] if name in self.architecture.head else own.rpartition(".")[0])
            tensors[f"{_STEM}{own}"] = value
        save_tensors(output / ADAPTER, tensors)
        config = lora_config(
            dict(sorted(ranks.items())),
            bool(self.architecture.transposed),
            task_type=_task(self.architecture.title),
            base_model_name_or_path=base,
            bias="all" if biases else "none",
            modules_to_save=sorted({*whole, *heads}) or None,
            ensure_weight_tying=self._ties(whole),
        )
        write_json(output / ADAPTER_CONFIG, config)

    def _ties(self, whole: Collection[str]) -> bool:
        """Whether a module that is saved whole is an output layer too."""
        tied = {self.architecture.in_model(of).rpartition(".")[0] for of in self.architecture.copies.values()}
        return bool(tied & set(whole))


def _task(title: str) -> str | None:
    """What PEFT calls the task of a class."""
    ends = {auto.removeprefix("AutoModel"): task for task, auto in TRAINED_ON.items()}
    found = next((task for end, task in ends.items() if title.endswith(end)), None)
    return "CAUSAL_LM" if title.endswith("LMHeadModel") else found
