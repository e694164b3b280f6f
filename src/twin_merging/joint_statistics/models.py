"""One whole model for each task, of which all share the merged part of their bodies in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin_merging.checkpoints.groups import Protocol
from twin_merging.checkpoints.kinds import WholeModel
from twin_merging.io.weights import open_directory
from twin_merging.task_vectors.statistics import load_expert

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class SharedModels:
    """`models`: by task, in alphabetical order, in eval mode and fp32. Each has its own head and the other parameters
    that the protocol leaves to the expert; all else is one tensor for all of them.

    merged: those of these tensors that the protocol merges, by the base's names, at first as the base has them. What
    is written into one of them changes all models. names: by their paths in the models, the base's names of the body's
    parameters.
    """

    models: Mapping[str, Any]
    merged: Mapping[str, torch.nn.Parameter]
    names: Mapping[str, str]


def shared_models(
    base: Path, experts: Mapping[str, Path], wholes: Mapping[str, WholeModel], protocol: Protocol
) -> SharedModels:
    """Load the experts one after the other, so that no more than one body is in memory beside the shared one.

    experts, wholes: by task, the expert's directory and its kind of model.
    """
    from torch import nn

    start = open_directory(base)
    shared: dict[str, nn.Parameter] = {}
    models: dict[str, Any] = {}
    names: dict[str, str] = {}
    for task in sorted(experts):
        model, names = load_expert(base, experts[task], wholes[task])
        model.requires_grad_(False)
        for place, name in names.items():
            if protocol.is_private(name, start.shape(name)):
                continue
            if name not in shared:
                shared[name] = nn.Parameter(start[name].float(), requires_grad=False)
            module, _, last = place.rpartition(".")
            setattr(model.get_submodule(module), last, shared[name])
        if getattr(model.config, "tie_word_embeddings", False):
            model.tie_weights()  # an output layer that is the embedding is the shared one
        models[task] = model
    merged = {name: tensor for name, tensor in shared.items() if protocol.merges(name, start.shape(name))}
    return SharedModels(models, merged, names)
