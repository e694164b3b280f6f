"""Writing a merged model's directory from the model in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from twin_merging.checkpoints.architectures import output_layer
from twin_merging.io.files import file_hashes, whole_directory, write_json
from twin_merging.io.sharding import Shards, save_model
from twin_merging.io.tensors import save_tensors
from twin_merging.model.adapters import AdapterForm, ExclusiveVector
from twin_merging.model.directory import RECORD, write_configuration
from twin_merging.model.exclusive_files import save_vector, store_of
from twin_merging.model.factor_files import SHARED, SharedFactors, save_shared
from twin_merging.model.factored import A, B
from twin_merging.model.first_layers import FOLDER as BASE
from twin_merging.model.first_layers import save_first_layers
from twin_merging.model.gated import Gated, PerTask
from twin_merging.model.sparse import entries_of, narrowed
from twin_merging.version import __version__


def save(model: Any, output: Path, shards: Shards) -> None:
    """Write the directory of a TwinModel that has a router; the shared body as `shards` say."""
    if model.router is None:
        raise ValueError("only a model with a router can be saved; a static one is written by its merge")
    with whole_directory(output) as partial:
        _save_shared(model, partial, shards)
        model.save_beside(partial)
        dtype = str(model.body.dtype).removeprefix("torch.")
        write_configuration({**model.body.config.to_diff_dict(), "dtype": dtype}, model.form, partial)
        private, exclusive = _private(model), _exclusive(model)
        form = AdapterForm.of(model.body, model.form.has_prefix)
        factored = _factored(model)
        store = store_of(model.record.get("options", {}))
        for task in model.known:
            save_tensors(partial / "private" / f"{task}.safetensors", private[task])
        for task in model.tasks:
            save_vector(exclusive[task], partial / "exclusive" / task, form, store, bool(factored))
        if factored:
            save_shared(factored, partial / SHARED, form)
        model.router.save(partial / "router")
        if model.reader is not None:
            save_first_layers(model.reader, model.body, model.router.features, partial / "router" / BASE)
        record = {
            "method": "twin",
            "family": model.form.family,
            "options": {"onepass": model.onepass},
            "tasks": {task: model.about_task(task) for task in model.tasks},
            **({"left_out": {task: model.about_task(task) for task in model.left_out}} if model.left_out else {}),
            "library": __version__,
        }
        files = file_hashes(partial, "private", "exclusive", "router", SHARED)
        write_json(partial / RECORD, {**record, **model.record, "files": files})


def _save_shared(model: Any, output: Path, shards: Shards) -> None:
    """The body's parameters by their own names, and with them a language model's output layer that is not tied."""
    tensors = {
        name: value.detach().cpu()
        for name, value in model.body.named_parameters()
        if not name.startswith("pooler.choices.")
    }
    output_part = output_layer(model.model)
    if output_part is not None:
        path, layer = output_part
        tensors = {f"{model.model.base_model_prefix}.{name}": value for name, value in tensors.items()}
        inside = {id(value) for value in model.body.parameters()}
        own = dict(layer.named_parameters(recurse=False))
        tensors |= {f"{path}.{n}": v.detach().cpu() for n, v in own.items() if id(v) not in inside}
    save_model(output, tensors, shards)


def _gated(model: Any) -> dict[str, Gated]:
    """The gated layers by their path in the body, or in the whole model where they lie beside it and are not tied."""
    found = {path: layer for path, layer in model.body.named_modules() if isinstance(layer, Gated)}
    output_part = output_layer(model.model)
    inside = {id(value) for value in model.body.parameters()}
    if output_part is not None and isinstance(output_part[1], Gated) and id(output_part[1].weight) not in inside:
        found[output_part[0]] = output_part[1]
    return found


def _exclusive(model: Any) -> dict[str, ExclusiveVector]:
    vectors = {task: ExclusiveVector() for task in model.tasks}
    for path, layer in _gated(model).items():
        for name in layer.ranks:
            stacked = layer.part(name, "vectors")
            for number, task in enumerate(model.tasks):
                factors = layer.factors_of(number, name) if name in ("weight", A, B) else None
                entries = entries_of(layer, number) if name == "weight" else None
                if entries is not None and entries.values.any():
                    weight: Any = layer.weight
                    vectors[task].sparse[f"{path}.{name}"] = narrowed(entries, weight.shape[1])
                elif stacked is not None:
                    vectors[task].vectors[f"{path}.{name}"] = stacked[number].cpu()
                elif factors is not None:
                    full = f"{path}.{name}" if name == "weight" else f"{path}.weight.{name}"
                    vectors[task].factors[full] = (factors[0].cpu(), factors[1].cpu())
    return vectors


def _factored(model: Any) -> dict[str, SharedFactors]:
    """The shared factors of matrices in factor space."""
    found = {}
    for path, layer in _gated(model).items():
        down, up = layer.part(A, "factor"), layer.part(B, "factor")
        if down is not None and up is not None:
            found[f"{path}.weight"] = SharedFactors(down.cpu(), up.cpu(), layer.scales[B])
    return found


def _private(model: Any) -> dict[str, dict[str, torch.Tensor]]:
    """A task that is left out has a head alone: what stands in its place in a layer is the shared body's."""
    tensors: dict[str, dict[str, torch.Tensor]] = {task: {} for task in model.known}
    for path, layer in _gated(model).items():
        for name in layer.ranks:
            stacked = layer.part(name, "private")
            for number, task in enumerate(model.tasks if stacked is not None else []):
                tensors[task][f"{path}.{name}"] = stacked[number].cpu()  # type: ignore[index]
    for path, part in model.model.named_modules():
        if isinstance(part, PerTask):
            stem = path.removeprefix(f"{model.model.base_model_prefix}.")
            for task, choice in zip(model.known, part.choices, strict=True):
                own = {f"{stem}.{name}": value.detach().cpu() for name, value in choice.named_parameters()}
                tensors[task] |= own
    return tensors
