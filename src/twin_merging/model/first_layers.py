"""The base's first layers, beside a model whose router reads the base's hidden states.

A merged model's own first layers are not the base's. So what the router reads lies in `router/base`: a configuration
that is cut to the layers that are read, and their parameters as `open_directory` names them. A parameter that the
shared expert has from the base unchanged (an embedding that is not merged) is not stored again: it is taken from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from twin_merging.checkpoints.architectures import before_layer, body_on_meta, layers_path, load_config
from twin_merging.errors import UserError
from twin_merging.io.files import write_json
from twin_merging.io.tensors import Checkpoint, save_tensors
from twin_merging.io.weights import open_directory
from twin_merging.routing.layers import Features, layers_of
from twin_merging.routing.router import WEIGHTS

FOLDER = "base"  # inside the router's


def write_first_layers(base: Path, shared: Path, features: Features, output: Path) -> None:
    """Write what a router of these features reads of the base. shared: the directory of the shared expert."""
    config = load_config(base)
    body: Any = body_on_meta(config)
    names = _read_names(body, features)
    tensors, own = _lookup(base, body), _lookup(shared, body)
    found = {}
    for name in names:
        value, other = tensors(name), own(name)
        if value is None:
            raise UserError(f"{base}: no tensor '{name}', which the router's features need; fetch the base again")
        if other is None or other.dtype != value.dtype or not torch.equal(other, value):
            found[name] = value
    _write(config, features, found, output)


def save_first_layers(reader: Any, body: Any, features: Features, output: Path) -> None:
    """Write the same from a model in memory: its `reader`, and the body of its shared expert."""
    own = dict(body.named_parameters())
    values = {name: value.detach().cpu() for name, value in reader.named_parameters()}
    names = _read_names(reader, features)
    found = {
        name: values[name]
        for name in names
        if name not in own or own[name].dtype != values[name].dtype or not torch.equal(own[name].cpu(), values[name])
    }
    _write(reader.config, features, found, output)


def load_first_layers(directory: Path, body: Any, features: Features) -> Any:
    """The base's first layers, in eval mode and in the dtype of `body`, the shared expert's, which has the parameters
    that are not stored."""
    from transformers import AutoModel

    config = load_config(directory)
    reader: Any = AutoModel.from_config(config).eval().to(body.dtype)
    if getattr(reader, "pooler", None) is not None:
        reader.pooler = None
    names = _read_names(reader, features)
    stored, own = Checkpoint(directory / WEIGHTS), dict(body.named_parameters())
    for name in names:
        if name not in stored and name not in own:
            raise UserError(f"{directory / WEIGHTS}: tensor '{name}' is missing; assemble the model again")
        value = nn.Parameter(stored[name].to(body.dtype)) if name in stored else own[name]
        path, _, leaf = name.rpartition(".")
        setattr(reader.get_submodule(path), leaf, value)
    most = max(layers_of(features, config.num_hidden_layers))
    if most < config.num_hidden_layers:  # the layer at whose input a pass ends is never run
        reader.get_submodule(layers_path(reader))[most] = nn.Identity()
    return reader.requires_grad_(False)


def _read_names(body: Any, features: Features) -> list[str]:
    """The parameters behind the hidden states that are read, in the body's order."""
    names = [name for name, _ in body.named_parameters() if not name.startswith("pooler.")]
    count = body.config.num_hidden_layers
    most = max(layers_of(features, count))
    early = set(names) if most == count else before_layer(names, body, most)
    return [name for name in names if name in early]


def _write(config: Any, features: Features, tensors: Mapping[str, torch.Tensor], output: Path) -> None:
    count = config.num_hidden_layers
    kept = min(max(layers_of(features, count)) + 1, count)  # the state before layer k is what enters it
    content = config.to_dict()
    for key in ("architectures", "auto_map", "id2label", "label2id", "_name_or_path", "transformers_version"):
        content.pop(key, None)
    if content.get("layer_types"):
        content["layer_types"] = content["layer_types"][:kept]
    content[config.attribute_map.get("num_hidden_layers", "num_hidden_layers")] = kept
    cut = type(config).from_dict(content)
    save_tensors(output / WEIGHTS, dict(tensors))
    write_json(output / "config.json", dict(sorted(cut.to_diff_dict().items())))


def _lookup(directory: Path, body: Any) -> Callable[[str], torch.Tensor | None]:
    """A directory's tensors by the body's names, whether the file has the prefix of a whole model or not."""
    opened = open_directory(directory)
    prefix = f"{body.base_model_prefix}."

    def find(name: str) -> torch.Tensor | None:
        return next((opened[one] for one in (name, f"{prefix}{name}") if one in opened), None)

    return find
