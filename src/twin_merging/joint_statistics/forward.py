"""RegMean++: Gram matrices of the inputs that the merged model's earlier layers give (arXiv 2508.03121).

The layers are merged from the first to the last. In front of layer l, each task has the hidden states that the merged
layers before it make of its rows. They run through layer l as each task's own expert has it, which gives the Gram
matrices of this layer's linear parts. Then the layer is merged by RegMean, and the states run through the merged layer.
So each row passes through every layer twice, once to be looked at and once to go on. "Layer" is a layer of the
transformer, with attention and feed-forward parts, as in the authors' code.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin_merging.checkpoints.architectures import is_causal, layers_path
from twin_merging.errors import UserError
from twin_merging.io.tensors import TensorWriter, tensor_file
from twin_merging.jobs.progress import Progress
from twin_merging.joint_statistics.models import SharedModels
from twin_merging.joint_statistics.rows import TrainingRows
from twin_merging.merging.inputs import Inputs
from twin_merging.merging.methods.regression import regmean
from twin_merging.merging.registry import Parameter
from twin_merging.task_vectors.grams import gathering

if TYPE_CHECKING:
    import torch
    from torch import nn

log = logging.getLogger(__name__)


class _ReachedLayersError(Exception):
    """Raised to end a forward pass in front of the first layer."""


@dataclass
class Passing:
    """A batch of one task on its way through the layers: its hidden states (batch, length, d), what else a layer is
    called with, and which tokens are no padding (batch, length)."""

    hidden: torch.Tensor
    arguments: tuple[Any, ...]
    named: Mapping[str, Any]
    mask: torch.Tensor

    def through(self, layer: nn.Module) -> torch.Tensor:
        return _hidden_of(layer(self.hidden, *self.arguments, **self.named))


def write(models: SharedModels, inputs: Inputs, rows: TrainingRows, options: Mapping[str, Any], output: Path) -> None:
    """Write each task's Gram matrices, a file a task, into the directory `output`.

    inputs: the base and the task vectors, of the parameters that are merged. options: RegMean's `alpha`. The matrices
    of one layer are in memory at a time, beside the hidden states of all rows.
    """
    import torch

    first = next(iter(models.models.values()))
    path = _path_of_layers(first)
    count = len(first.get_submodule(path))
    inside = {place: name for place, name in models.names.items() if place.startswith(f"{path}.")}
    grams = {name: inputs.base.shape(name)[1] for name in _linear(first, inside, models)}
    shapes = {name: ((n, n), torch.float32) for name, n in grams.items()}
    progress = Progress(count, "layers")
    with ExitStack() as files, torch.inference_mode():
        writers = {
            task: files.enter_context(tensor_file(output / f"{task}.safetensors", shapes)) for task in models.models
        }
        for name in sorted(set(models.merged) - set(inside.values())):  # what lies before and behind the layers
            models.merged[name].copy_(_merged(_read(inputs, name), {}, options))
        batches = {task: rows.first(task) for task in models.models}
        states = {task: list(_before_layers(model, path, batches[task])) for task, model in models.models.items()}
        for number in range(count):
            progress.update(number)
            _layer(models, inputs, states, f"{path}.{number}", inside, grams, options, writers)
        for task, model in models.models.items():
            _check_way(model, f"{path}.{count - 1}", batches[task][0], states[task][0])


def _layer(
    models: SharedModels,
    inputs: Inputs,
    states: Mapping[str, list[Passing]],
    path: str,
    inside: Mapping[str, str],
    wanted: Mapping[str, int],
    options: Mapping[str, Any],
    writers: Mapping[str, TensorWriter],
) -> None:
    """Find and write one layer's Gram matrices, merge it, and let all hidden states pass through it."""
    own = [name for place, name in inside.items() if place.startswith(f"{path}.") and name in models.merged]
    parameters = {name: _read(inputs, name) for name in own}
    found: dict[str, dict[str, torch.Tensor]] = {name: {} for name in own}
    for task, model in models.models.items():
        for name, parameter in parameters.items():
            models.merged[name].copy_(parameter.base + parameter.vectors[task])
        rows = sum(len(passing.mask) for passing in states[task])
        layer = model.get_submodule(path)
        with gathering(layer, path, rows) as grams:
            for passing in states[task]:
                grams.mask = passing.mask
                passing.through(layer)
        for place, gram in grams.found.items():
            if inside.get(place) in wanted:
                found[inside[place]][task] = gram
                writers[task].write(inside[place], gram)
    for name, parameter in parameters.items():
        models.merged[name].copy_(_merged(parameter, found[name], options))
    for task, model in models.models.items():
        layer = model.get_submodule(path)
        for passing in states[task]:
            passing.hidden = passing.through(layer)


def _read(inputs: Inputs, name: str) -> Parameter:
    return inputs.parameter((name, 0, inputs.rows_of(name)))


def _merged(parameter: Parameter, grams: Mapping[str, torch.Tensor], options: Mapping[str, Any]) -> torch.Tensor:
    """The value that the merge gives the parameter, before it is cast."""
    return regmean(replace(parameter, statistics=grams), alpha=options["alpha"])


def _path_of_layers(model: Any) -> str:
    """The path of the list of layers in a whole model."""
    try:
        path = layers_path(model.base_model)
    except UserError:
        raise UserError(
            f"model type '{model.config.model_type}' has no list of layers that RegMean++ could merge one after the "
            "other; use regmean"
        ) from None
    prefix = model.base_model_prefix if model.base_model is not model else ""
    return f"{prefix}.{path}".lstrip(".")


def _linear(model: Any, inside: Mapping[str, str], models: SharedModels) -> list[str]:
    """The base's names of the merged weights of linear layers."""
    from torch import nn

    return [
        name
        for place, name in inside.items()
        if place.endswith(".weight")
        and name in models.merged
        and isinstance(model.get_submodule(place.removesuffix(".weight")), nn.Linear)
    ]


def _check_way(model: Any, last: str, batch: Any, passing: Passing) -> None:
    """Raise UserError where a whole pass of the merged model gives a batch other hidden states than the layers one
    after the other did: layers that are called in different ways, as those of local and of global attention."""
    import torch

    found: list[Any] = []
    hook = model.get_submodule(last).register_forward_hook(lambda _, inputs, output: found.append(output))
    try:
        _run_body(model, batch)
    finally:
        hook.remove()
    mask = passing.mask.bool()
    whole, own = (_hidden_of(found[0])[mask], passing.hidden[mask])
    if not torch.allclose(whole, own, rtol=1e-3, atol=1e-3 * float(whole.abs().max())):
        raise UserError(
            f"model type '{model.config.model_type}': its layers are not all called in the same way, so they cannot "
            "be merged one after the other; use regmean"
        )


def _hidden_of(output: Any) -> torch.Tensor:
    """The hidden states in what a layer returns."""
    found: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return found


def _run_body(model: Any, batch: Any) -> None:
    model.base_model(**batch, **({"use_cache": False} if is_causal(model.config) else {}))


def _before_layers(model: Any, path: str, batches: list[Any]) -> Iterator[Passing]:
    """Each batch in front of the first layer."""
    reached: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def stop(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        reached.append((arguments, named))
        raise _ReachedLayersError

    hook = model.get_submodule(f"{path}.0").register_forward_pre_hook(stop, with_kwargs=True)
    try:
        for batch in batches:
            with suppress(_ReachedLayersError):
                _run_body(model, batch)
            arguments, named = reached.pop()
            hidden, arguments = (arguments[0], arguments[1:]) if arguments else (named.pop("hidden_states"), ())
            yield Passing(hidden, arguments, named, batch["attention_mask"])
    finally:
        hook.remove()
