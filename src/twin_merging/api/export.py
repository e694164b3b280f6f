"""A fixed mixture of a merged model's knowledge as one model of its architecture, or as one LoRA on the shared body; or
all of it as a body and an adapter for each task."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from twin_merging.api.export_adapters import export_adapters
from twin_merging.errors import UserError, unknown
from twin_merging.io.files import pass_on, whole_directory, write_json
from twin_merging.io.sharding import LIMIT, Shards
from twin_merging.model.adapters import AdapterForm, ExclusiveVector, save_exclusive
from twin_merging.model.directory import local_directory, read_record
from twin_merging.model.factor_files import SHARED
from twin_merging.model.factored import B, factored_change
from twin_merging.model.gated import Gated, PerTask
from twin_merging.model.gated_layers import GatedConv1D
from twin_merging.model.joined import evenly, joined_factors
from twin_merging.model.loading import load_vectors
from twin_merging.model.sparse import entries_of, sparse_change
from twin_merging.model.sparse_files import SPARSE
from twin_merging.model.twin import TwinModel

log = logging.getLogger(__name__)

FORMS = ("dense", "lora", "vllm")


def export(
    directory: str | Path,
    weights: Mapping[str, float] | None,
    output: str | Path,
    form: str = "dense",
    task: str | None = None,
    max_shard_size: int | str = LIMIT,
) -> Path:
    """Write theta_s + sum_t weights[t] v_t into a new directory, and give its path; a task left out has weight 0.

    dense: a checkpoint of the architecture that transformers loads, with the private parameters (head, biases) of
    `task`; by default the task of the largest weight. lora: one PEFT adapter on the shared body, of the sum of the
    ranks; what LoRA cannot carry (1-D parts) is written beside it, in vectors.safetensors. vllm: no mixture, so without
    weights: what servers of many LoRA adapters take (`export_adapters`). max_shard_size: of a checkpoint's files, in
    bytes or as "5GB".

    Raises UserError for an unknown task, a form that is none, or an output directory that exists.
    """
    directory, output, shards = local_directory(directory, {}), Path(output), Shards.of(max_shard_size)
    record = read_record(directory)
    tasks, weights = list(record["tasks"]), dict(weights or {})
    for names, allowed in ((weights, tasks), ([task] if task else [], [*tasks, *record.get("left_out", {})])):
        for name in names:
            if name not in allowed:
                raise UserError(f"{directory}: {unknown('task', name, allowed)}")
    if form not in FORMS:
        raise UserError(f"form: {unknown('form', form, FORMS)}")
    if form == "vllm" and (weights or task):
        raise UserError("weights: form vllm writes an adapter a task, and no mixture; leave out weights and task")
    if form != "vllm" and not weights:
        raise UserError("weights: none are given; name at least one task with its weight")
    if output.exists():
        raise UserError(f"{output}: exists; name a new directory")
    if not (directory / "exclusive").is_dir():
        raise UserError(f"{directory}: has no exclusive vectors, so it is one model already")
    if form != "dense" and (directory / SHARED).is_dir():
        raise UserError(f"{directory}: mixes LoRA factors (lora_space: factor), which is no sum of LoRAs; export it as "
                        "form dense")  # fmt: skip
    model = TwinModel.from_pretrained(directory)
    if form == "lora" and any((directory / "exclusive" / task / SPARSE).exists() for task in tasks):
        raise UserError(f"{directory}: has sparse exclusive vectors, which are no LoRAs; export it as form dense")
    if form == "lora" and model.gates.joined:
        raise UserError(
            f"{directory}: merges its tasks for each input, which is no sum of LoRAs; export it as form dense"
        )
    with whole_directory(output, replace=False) as partial:
        if form == "vllm":
            export_adapters(model, single_model(model, {}, tasks[0]), directory, partial, shards)
            return output
        if form == "lora":
            _export_lora(model, directory, weights, partial)
        else:
            chosen = task or max(weights, key=lambda name: (weights[name], -tasks.index(name)))
            single_model(model, weights, chosen).save_pretrained(partial, max_shard_size=shards.limit)
            pass_on(directory, partial, but=[file.name for file in partial.iterdir()])
        write_json(partial / "mixture.json", {"weights": dict(weights), "form": form, "task": task})
    return output


def single_model(model: Any, weights: Mapping[str, float], task: str) -> Any:
    """The architecture's own model with theta_s + sum_t weights[t] v_t in it, and the private parameters of `task`."""
    row = torch.tensor([weights.get(name, 0.0) for name in model.tasks])
    number = model.known.index(task)
    single = model.single_on_meta(task)
    values: dict[str, torch.Tensor] = {}
    for path, part in model.model.named_modules():
        if isinstance(part, PerTask):
            own = part.choices[number].named_parameters()
            values |= {f"{path}.{name}": value.detach().clone() for name, value in own}
        elif ".choices." not in path:
            for name, value in part.named_parameters(recurse=False):
                values[f"{path}.{name}"] = _mixed(part, name, value.detach(), row, number)
    for name, buffer in model.model.named_buffers():
        if name in dict(single.named_buffers()):
            values[name] = buffer
    single.config.architectures = [type(single).__name__]
    missing = single.load_state_dict(values, strict=False, assign=True).missing_keys
    if hasattr(single, "tie_weights"):
        single.tie_weights()
    lost = [name for name in missing if dict(single.named_parameters())[name].is_meta]
    if lost:
        raise UserError(f"the merged model lacks '{lost[0]}'; assemble it again")
    return _on_device(single, model).eval()


def _mixed(layer: Any, name: str, shared: torch.Tensor, row: torch.Tensor, number: int) -> torch.Tensor:
    """One parameter's value in the mixture, computed in fp32."""
    if isinstance(layer, Gated) and name == "weight" and B in layer.ranks:
        return (shared.float() + factored_change(layer, row).to(shared.device)).to(shared.dtype)
    if not isinstance(layer, Gated) or name not in layer.ranks:
        return shared.clone()
    private, vectors = layer.part(name, "private"), layer.part(name, "vectors")
    if private is not None:
        return private[number].clone()
    value = shared.float()
    if layer.gates.joined:
        return _joined(layer, name, value, row).to(shared.dtype)
    if vectors is not None:
        value = value + torch.tensordot(row.to(vectors.device), vectors.float(), dims=1)
    for task, weight in enumerate(row.tolist()):
        if name == "weight" and weight and entries_of(layer, task) is not None:
            value = value + weight * sparse_change(layer, task).float()
        pair = layer.factors_of(task) if name == "weight" and weight else None
        if pair is not None:
            change = weight * (pair[1].float() @ pair[0].float())
            value = value + (change.T if isinstance(layer, GatedConv1D) else change)
    return value.to(shared.dtype)


def _joined(layer: Gated, name: str, value: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
    """The same where the tasks of weights that are not 0 are merged, by how much whatever these are."""
    vectors = layer.part(name, "vectors")
    if vectors is not None:
        value = value + torch.tensordot(evenly(row).to(vectors.device), vectors.float(), dims=1)
    pair = joined_factors(layer, row.nonzero().flatten().tolist()) if name == "weight" else None
    if pair is None:
        return value
    change = pair[1].float() @ pair[0].float()
    return value + (change.T if isinstance(layer, GatedConv1D) else change)


def _on_device(single: Any, model: Any) -> Any:
    """Buffers that no checkpoint holds (positions, rotary frequencies) come from the merged model."""
    theirs = dict(model.model.named_buffers())
    stored = single.state_dict()
    for path, part in single.named_modules():
        for name, buffer in list(part.named_buffers(recurse=False)):
            full = f"{path}.{name}" if path else name
            if buffer.is_meta:
                part.register_buffer(name, theirs[full].clone(), persistent=full in stored)
    return single


def _export_lora(model: Any, directory: Path, weights: Mapping[str, float], output: Path) -> None:
    vectors = load_vectors(directory, model.record, [task for task in weights if weights[task]])
    mixed = ExclusiveVector()
    for name in sorted({name for vector in vectors.values() for name in vector.factors}):
        own = [(weights[t], vector.factors[name]) for t, vector in vectors.items() if name in vector.factors]
        mixed.factors[name] = (torch.cat([d for _, (d, _) in own]), torch.cat([w * u for w, (_, u) in own], dim=1))
    for name in sorted({name for vector in vectors.values() for name in vector.vectors}):
        own_parts = [weights[t] * vector.vectors[name] for t, vector in vectors.items() if name in vector.vectors]
        mixed.vectors[name] = torch.stack(own_parts).sum(0)
    save_exclusive(mixed, output, AdapterForm.of(model.body, model.form.has_prefix))
    if mixed.vectors:
        log.info("vectors.safetensors: %d 1-D parts, which the adapter cannot carry", len(mixed.vectors))
