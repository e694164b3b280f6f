"""What a merged model's shared body has beside it, by the names of the body's parameters."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from twin_merging.checkpoints.architectures import before_layer, heads_of, output_layer
from twin_merging.checkpoints.groups import is_pooler
from twin_merging.errors import UserError
from twin_merging.model.adapters import ExclusiveVector
from twin_merging.model.factor_files import SharedFactors
from twin_merging.model.factored import factored_parts
from twin_merging.model.gated import Gated, Parts, PerTask
from twin_merging.model.gated_layers import gate_layer
from twin_merging.model.gates import Gates
from twin_merging.model.masked import MaskedVectors
from twin_merging.model.sparse import stacked
from twin_merging.task_vectors.lora_matrices import DOWN, UP

POOLER = "pooler"
Tensors = Mapping[str, torch.Tensor]


@dataclass
class Beside:
    """Each task's private parameters and exclusive vector, in the order of `tasks`; or masked vectors; and the shared
    factors of matrices of which the exclusive vectors are in factor space. Tasks of `left_out` come behind the others,
    and have a head and nothing else: the shared body is theirs.

    Names are the body's (as in `AutoModel`), and of what lies beside the body (a head, `lm_head`) the whole model's.
    """

    tasks: list[str]
    private: Mapping[str, Tensors] = field(default_factory=dict)
    exclusive: Mapping[str, ExclusiveVector] = field(default_factory=dict)
    masked: MaskedVectors | None = None
    factored: Mapping[str, SharedFactors] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    @property
    def known(self) -> list[str]:
        """Every task that has private parameters, in the order in which these are stacked."""
        return [*self.tasks, *self.left_out]

    def canonical(self, prefix: str) -> Beside:
        """The same, with names that have the body's prefix without it."""

        def short(tensors: Mapping[str, Any]) -> dict[str, Any]:
            return {name.removeprefix(f"{prefix}."): tensors[name] for name in tensors}

        private = {task: short(own) for task, own in self.private.items()}
        exclusive = {task: vector.without_prefix(f"{prefix}.") for task, vector in self.exclusive.items()}
        return Beside(self.tasks, private, exclusive, self.masked, short(self.factored), self.left_out)

    def layer_parts(self, path: str, shared: Mapping[str, torch.Tensor]) -> dict[str, Parts]:
        """What a layer has beside its own parameters, `shared`: by their names, and in factor space by the factors'."""
        parts = {name: self.part(f"{path}.{name}", value) for name, value in shared.items()}
        found = {name: part for name, part in parts.items() if part is not None}
        weight = f"{path}.weight"
        if weight in self.factored and "weight" in shared:
            found |= factored_parts(weight, self.factored[weight], self.exclusive, shared["weight"].dtype)
        return found

    def part(self, name: str, shared: torch.Tensor) -> Parts | None:
        """What one parameter has beside its shared value; None when nothing."""
        if self.masked is not None and name in self.masked.unified:
            return self.masked.parts(name, shared)
        if any(name in own for own in self.private.values()):
            return Parts(private=torch.stack([self._own(task, name, shared).to(shared.dtype) for task in self.known]))
        vectors = [self.exclusive[task].vectors.get(name) for task in self.tasks if task in self.exclusive]
        if any(vector is not None for vector in vectors):
            zero = torch.zeros_like(shared).detach()
            return Parts(vectors=torch.stack([zero if v is None else v.to(shared.dtype) for v in vectors]))
        entries = [self.exclusive[task].sparse.get(name) for task in self.tasks if task in self.exclusive]
        if any(one is not None for one in entries):
            columns, values = stacked(entries, shared)
            return Parts(columns=columns, values=values)
        pairs = [self.exclusive[task].factors.get(name) for task in self.tasks if task in self.exclusive]
        present = [(down.to(shared.dtype), up.to(shared.dtype)) for down, up in (p for p in pairs if p is not None)]
        if not present:
            return None
        return Parts(
            down=torch.cat([down for down, _ in present]).contiguous(),
            up=torch.cat([up for _, up in present], dim=1).contiguous(),
            ranks=tuple(0 if pair is None else pair[0].shape[0] for pair in pairs),
        )

    def _own(self, task: str, name: str, shared: torch.Tensor) -> torch.Tensor:
        if task in self.left_out:
            return self.private[task].get(name, shared.detach())
        if name not in self.private.get(task, {}):
            raise UserError(f"private parameters of task '{task}' lack '{name}', which other tasks have; merge again")
        return self.private[task][name]


def gate_model(model: Any, beside: Beside, gates: Gates, first_layer: int | None) -> None:
    """Gate every layer of a model that has parts beside its shared parameters, in place.

    first_layer: in a one-pass model the layer that the router reads the input of; everything before it stays shared.
    Raises UserError for parts that fit no parameter, or belong to a layer that cannot be gated.
    """
    body = getattr(model, model.base_model_prefix)
    names = {name: parameter for name, parameter in body.named_parameters() if not is_pooler(name)}
    early = set() if first_layer is None else before_layer(names, body, first_layer)
    used, late = set(names), set(names) - early
    parts: dict[str, Parts] = {}
    for path, layer in list(body.named_modules()):
        own = {n: value for n, value in layer.named_parameters(recurse=False) if f"{path}.{n}" in late}
        found = beside.layer_parts(path, own)
        parts |= {f"{path}.{n}": part for n, part in found.items()}
        _gate(path, layer, found, gates)
    output = output_layer(model)
    if output is not None:
        path, layer = output
        tied = next((name for name, value in names.items() if value is layer.weight), None)
        values = dict(layer.named_parameters(recurse=False))
        found = beside.layer_parts(path, values)
        if tied in parts:
            found["weight"] = parts[tied]
        used |= {f"{path}.{n}" for n in values}
        _gate(path, layer, found, gates)
    _check_used(beside, used)


def _gate(path: str, layer: Any, found: Mapping[str, Parts], gates: Gates) -> None:
    if found and not isinstance(layer, Gated):
        gate_layer(path, layer, found, gates)


def _check_used(beside: Beside, names: set[str]) -> None:
    for task, vector in beside.exclusive.items():
        for name in [*vector.factors, *vector.vectors, *vector.sparse]:
            parameter = name.removesuffix(DOWN).removesuffix(UP)
            if (name if parameter not in beside.factored else parameter) not in names and not is_pooler(name):
                raise UserError(f"exclusive vector of task '{task}': '{name}' fits no parameter of the shared body")


def filled(module: nn.Module, name: str, tensors: Tensors, task: str, dtype: torch.dtype) -> nn.Module:
    """A copy of a module on the meta device, with one task's private parameters in it."""
    own = {key.removeprefix(f"{name}."): tensors[key].to(dtype) for key in tensors if key.startswith(f"{name}.")}
    copied = copy.deepcopy(module)
    missing = [key for key, _ in copied.named_parameters() if key not in own]
    if missing:
        raise UserError(f"private parameters of task '{task}' lack '{name}.{missing[0]}'; merge again")
    copied.load_state_dict(own, assign=True)
    return copied.requires_grad_(False)


def place_body(model: Any, body: Any, beside: Beside, gates: Gates) -> None:
    """Put the body into the classifier, with a pooler only where the classifier has one: a pooler a task."""
    wanted = getattr(getattr(model, model.base_model_prefix), POOLER, None)
    setattr(model, model.base_model_prefix, body)
    if getattr(body, POOLER, None) is not None:
        body.pooler = None
    if wanted is not None:
        own = [filled(wanted, POOLER, beside.private[task], task, body.dtype) for task in beside.known]
        body.pooler = PerTask(own, gates)


def place_heads(model: Any, skeletons: Mapping[str, Any], beside: Beside, gates: Gates) -> None:
    """Replace every part of the classifier beside its body by one a task."""
    body = getattr(model, model.base_model_prefix)
    for name in heads_of(model):
        own = [
            filled(getattr(skeletons[task], name), name, beside.private[task], task, body.dtype)
            for task in beside.known
        ]
        setattr(model, name, PerTask(own, gates))
