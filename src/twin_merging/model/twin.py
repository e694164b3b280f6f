"""The merged model as one module: shared body, private parameters, exclusive vectors, router."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModel
from transformers import logging as transformers_logging
from transformers.modeling_outputs import SequenceClassifierOutput

from twin_merging.architectures import classifier_on_meta, heads_of, with_labels
from twin_merging.checkpoints import Checkpoint
from twin_merging.errors import UserError, unknown
from twin_merging.files import read_json
from twin_merging.masks import MASKS, RESCALE, UNIFIED, unpack
from twin_merging.model.adapters import ExclusiveVector, load_exclusive
from twin_merging.model.gated import GATED, Gates, Masked, Parts, PerTask
from twin_merging.routing.features import mean_of_tokens
from twin_merging.routing.router import Router

POOLER = "pooler"


@dataclass
class TwinOutput(SequenceClassifierOutput):
    """A sequence classifier's output, and the mixing weights (batch, T); None for a model without a router."""

    weights: torch.Tensor | None = None


class TwinModel(nn.Module):
    """A merged model that answers batches of mixed tasks: theta(x) = theta_s + sum_t w_t(x) v_t.

    body: the shared expert (an `AutoModel`). labels: each task's label count, in the router's order. private: each
    task's private parameters by name, its head among them. exclusive: each task's vector. Without exclusive vectors
    and router it is a static model with a head a task.
    """

    def __init__(
        self,
        body: nn.Module,
        labels: Mapping[str, int],
        private: Mapping[str, Mapping[str, torch.Tensor]],
        exclusive: Mapping[str, ExclusiveVector] | None = None,
        router: Router | None = None,
        masked: MaskedVectors | None = None,
    ):
        super().__init__()
        self.tasks = list(labels)
        self.labels = dict(labels)
        self.gates = Gates()
        self.router = router
        self.largest = max(labels.values())
        skeletons = {count: classifier_on_meta(with_labels(body.config, count)) for count in set(labels.values())}
        self.model: Any = skeletons[self.largest]
        self._place_body(body, private)
        self._place_heads(skeletons, private)
        _gate_body(self.body, self.tasks, private, exclusive or {}, masked, self.gates)
        self.eval()

    @property
    def body(self) -> Any:
        return getattr(self.model, self.model.base_model_prefix)

    @property
    def config(self) -> Any:
        return self.body.config

    @classmethod
    def from_pretrained(cls, directory: str | Path) -> TwinModel:
        """Load a merged model's directory, static or dynamic. Raises UserError, naming the file, when one is wrong."""
        directory = Path(directory)
        if not (directory / "merge.json").is_file():
            raise UserError(f"{directory}: no merge.json in it; name the directory of a merged model")
        labels = {task: entry["labels"] for task, entry in read_json(directory / "merge.json")["tasks"].items()}
        private = {task: Checkpoint(directory / "private" / f"{task}.safetensors") for task in labels}
        exclusive = router = masked = None
        if (directory / "router").is_dir():
            exclusive = {task: load_exclusive(directory / "exclusive" / task) for task in labels}
            router = Router.load(directory / "router")
        if (directory / MASKS).is_dir():
            masked = MaskedVectors.load(directory, list(labels))
        return cls(load_body(directory), labels, private, exclusive, router, masked)

    @torch.no_grad()
    def route(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **batch: Any) -> torch.Tensor:
        """Mixing weights (batch, T) of inputs, from the shared expert's features of them."""
        if self.router is None:
            raise ValueError("this model has no router: give weights")
        self.gates.weights = self.gates.tasks = None
        hidden = self._hidden(input_ids=input_ids, attention_mask=attention_mask, **batch)
        return self.router.weights(mean_of_tokens(hidden, attention_mask))

    def forward(
        self, *, weights: torch.Tensor | None = None, tasks: Sequence[str] | None = None, **batch: torch.Tensor
    ) -> TwinOutput:
        """Answer a tokenised batch. weights (batch, T) replaces the router; tasks, a name a row, says whose private
        parameters answer each row instead of the routed task's. logits: (batch, largest label count), padded
        with -inf where a row's head is smaller.
        """
        if "labels" in batch:
            raise ValueError("a batch of mixed tasks has no one loss: leave out labels")
        batch.setdefault("attention_mask", torch.ones_like(batch["input_ids"]))
        if weights is None and self.router is not None:
            weights = self.route(**batch)
        self._check(weights, len(batch["input_ids"]))
        chosen = self._chosen(weights, tasks, len(batch["input_ids"]), batch["input_ids"].device)
        try:
            self.gates.weights, self.gates.tasks = weights, chosen
            output = self.model(**batch)
        finally:
            self.gates.weights = self.gates.tasks = None
        missing = self.largest - output.logits.shape[-1]
        logits = nn.functional.pad(output.logits, (0, missing), value=-torch.inf)
        return TwinOutput(
            logits=logits, hidden_states=output.hidden_states, attentions=output.attentions, weights=weights
        )

    def _hidden(self, **batch: torch.Tensor) -> torch.Tensor:
        pooler = getattr(self.body, POOLER, None)
        if pooler is not None:
            self.body.pooler = None
        try:
            return self.body(**batch).last_hidden_state
        finally:
            if pooler is not None:
                self.body.pooler = pooler

    def _check(self, weights: torch.Tensor | None, rows: int) -> None:
        if weights is not None and tuple(weights.shape) != (rows, len(self.tasks)):
            raise ValueError(f"weights are {tuple(weights.shape)}, but this batch needs {(rows, len(self.tasks))}")

    def _chosen(
        self, weights: torch.Tensor | None, tasks: Sequence[str] | None, rows: int, device: torch.device
    ) -> torch.Tensor:
        if tasks is None:
            if weights is None:
                raise ValueError("a static model does not know its inputs' tasks: give tasks, a name a row")
            return weights.argmax(-1)
        if len(tasks) != rows:
            raise ValueError(f"{len(tasks)} tasks for {rows} rows; give one a row")
        for name in set(tasks) - set(self.tasks):
            raise ValueError(unknown("task", name, self.tasks))
        return torch.tensor([self.tasks.index(name) for name in tasks], device=device)

    def _place_body(self, body: Any, private: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
        """Put the body into the classifier, with a pooler only where the classifier has one: a pooler a task."""
        wanted = getattr(self.body, POOLER, None)
        setattr(self.model, self.model.base_model_prefix, body)
        if getattr(body, POOLER, None) is not None:
            body.pooler = None
        if wanted is not None:
            body.pooler = PerTask([_filled(wanted, POOLER, private[task], task) for task in self.tasks], self.gates)

    def _place_heads(self, skeletons: Mapping[int, Any], private: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
        """Replace every part of the classifier beside its body by one a task."""
        for name in heads_of(self.model):
            heads = [
                _filled(getattr(skeletons[self.labels[task]], name), name, private[task], task) for task in self.tasks
            ]
            setattr(self.model, name, PerTask(heads, self.gates))


@dataclass(frozen=True)
class MaskedVectors:
    """A unified vector, and each task's masks and factor, in the order of the tasks."""

    unified: Checkpoint
    masks: list[Checkpoint]

    @classmethod
    def load(cls, directory: Path, tasks: list[str]) -> MaskedVectors:
        masks = [Checkpoint(directory / MASKS / f"{task}.safetensors") for task in tasks]
        return cls(Checkpoint(directory / UNIFIED), masks)

    def parts(self, name: str, shared: torch.Tensor) -> Parts:
        """A small parameter's values for all tasks; what a larger one's are made of."""
        unified = self.unified[name]
        bits = torch.stack([mask[name] for mask in self.masks])
        rescale = torch.stack([mask[RESCALE] for mask in self.masks])
        if unified.dim() > 1:
            return Parts(masked=Masked(unified, bits, rescale))
        return Parts(private=shared.detach() + rescale[:, None] * unpack(bits[:, 0], unified.shape[0]) * unified)


def load_body(directory: Path) -> Any:
    """The body of a model directory, fp32, in eval mode."""
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        return AutoModel.from_pretrained(directory, local_files_only=True, dtype=torch.float32).eval()
    finally:
        transformers_logging.set_verbosity(level)


def _filled(module: nn.Module, name: str, tensors: Mapping[str, torch.Tensor], task: str) -> nn.Module:
    """A copy of a module on the meta device, with one task's private parameters in it."""
    own = {key.removeprefix(f"{name}."): tensors[key].float() for key in tensors if key.startswith(f"{name}.")}
    filled = copy.deepcopy(module)
    missing = [key for key, _ in filled.named_parameters() if key not in own]
    if missing:
        raise UserError(f"private parameters of task '{task}' lack '{name}.{missing[0]}'; merge again")
    filled.load_state_dict(own, assign=True)
    return filled.requires_grad_(False)


def _gate_body(
    body: nn.Module,
    tasks: list[str],
    private: Mapping[str, Mapping[str, torch.Tensor]],
    exclusive: Mapping[str, ExclusiveVector],
    masked: MaskedVectors | None,
    gates: Gates,
) -> None:
    """Replace every layer of the body that has exclusive or private parts by its gated form."""
    shared = dict(body.named_parameters())
    parts = {name: _parts(name, tasks, private, exclusive) for name in sorted(shared)}
    if masked is not None:
        parts |= {name: masked.parts(name, shared[name]) for name in masked.unified if name in shared}
    for path, layer in list(body.named_modules()):
        own = {name: parts.get(f"{path}.{name}") for name, _ in layer.named_parameters(recurse=False)}
        gated = {name: part for name, part in own.items() if part is not None}
        if not gated or path.startswith(f"{POOLER}."):
            continue
        kind = next((GATED[base] for base in GATED if type(layer) is base), None)
        if kind is None:
            raise UserError(
                f"layer '{path}' is a {type(layer).__name__}, which cannot be gated; keep its group in the base"
            )
        owner, _, name = path.rpartition(".")
        setattr(body.get_submodule(owner), name, kind(layer, gated, gates))


def _parts(
    name: str,
    tasks: list[str],
    private: Mapping[str, Mapping[str, torch.Tensor]],
    exclusive: Mapping[str, ExclusiveVector],
) -> Parts | None:
    """What one parameter has beside its shared value; None when nothing."""
    if tasks and name in private[tasks[0]] and not name.startswith(f"{POOLER}."):
        return Parts(private=torch.stack([private[task][name].float() for task in tasks]))
    if not exclusive:
        return None
    if any(name in exclusive[task].vectors for task in tasks):
        return Parts(vectors=torch.stack([exclusive[task].vectors[name] for task in tasks]))
    found = [exclusive[task].factors.get(name) for task in tasks]
    if not any(found):
        return None
    present = [pair for pair in found if pair is not None]
    return Parts(
        down=torch.cat([down for down, _ in present]),
        up=torch.cat([up for _, up in present], dim=1),
        ranks=[0 if pair is None else pair[0].shape[0] for pair in found],
    )
