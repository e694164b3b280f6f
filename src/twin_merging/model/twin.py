"""The merged model as one module: shared body, private parameters, exclusive vectors, router.

theta(x) = theta_s + sum_t w_t(x) v_t (paper, section 3.3) for each row of a batch, without building theta(x).
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import GenerationMixin, PreTrainedModel

from twin_merging.checkpoints.architectures import classifier_on_meta, is_causal, layers_path, with_labels
from twin_merging.errors import UserError, unknown
from twin_merging.model.adapters import ExclusiveVector
from twin_merging.model.gates import Gates, Mixture
from twin_merging.model.loading import Loading, Stored, load_body, load_language_model, read_directory
from twin_merging.model.masked import MaskedVectors
from twin_merging.model.order import order_by_task, output_in_order, rows_in_order
from twin_merging.model.parts import POOLER, Beside, Tensors, gate_model, place_body, place_heads
from twin_merging.model.saving import save
from twin_merging.routing.features import entering, features_of, pool
from twin_merging.routing.layers import single_layer
from twin_merging.routing.router import Router


class TwinModel(PreTrainedModel):
    """A merged model that answers batches of mixed tasks; `from_pretrained` gives one of its two subclasses.

    With a router it is dynamic: each row is answered by the shared expert plus that row's mixture of exclusive vectors.
    Without, it is static, and the caller names each row's task. `model` is the architecture's own model, its layers
    gated in place; `record` is what merge.json says. One forward pass at a time: a model is no place for two threads.
    """

    family: str  # encoder: sequence classification; decoder: generation
    base_model_prefix = "model"
    main_input_name = "input_ids"
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = True

    def __init__(
        self,
        model: Any,
        beside: Beside,
        gates: Gates,
        router: Router | None = None,
        onepass: bool = False,
        record: Mapping[str, Any] | None = None,
    ):
        super().__init__(_own_config(model.config, type(self).__name__))
        self.model, self.router, self.gates = model, router, gates
        self.tasks = list(beside.tasks)
        self.onepass, self.record = onepass, dict(record or {})
        self._causal = is_causal(model.config)
        self._positions = self._causal and "position_ids" in inspect.signature(self.body.forward).parameters
        gate_model(model, beside, gates, _layer_read(router) if onepass else None)
        self._awaited: tuple[torch.Tensor, Sequence[str] | None] | None = None
        if onepass:
            layer = self.body.get_submodule(layers_path(self.body))[_layer_read(router)]
            layer.register_forward_pre_hook(self._route_within, with_kwargs=True)
        self.eval()

    @property
    def body(self) -> Any:
        return getattr(self.model, self.model.base_model_prefix)

    @classmethod
    def from_pretrained(cls, directory: Any, *_: Any, **options: Any) -> TwinModel:
        """Load a merged model's directory, static or dynamic (or a repository of the Hub that holds one).

        options: dtype ("auto", the shared body's own, by default), device_map (one device), attn_implementation, and
        those that say where the Hub is. Raises UserError, naming the file, when one is missing or wrong.
        """
        chosen = Loading.of(**options)
        stored = read_directory(directory, chosen.hub)
        kind = next((kind for kind in TwinModel.__subclasses__() if kind.family == stored.family), None)
        if kind is None:
            families = ", ".join(kind.family for kind in TwinModel.__subclasses__())
            raise UserError(f"{stored.directory}/merge.json: family '{stored.family}' is none of {families}")
        if not issubclass(kind, cls):
            raise UserError(f"{stored.directory}: holds a {kind.__name__}; load it as that, or as TwinModel")
        model: Any = kind.from_stored(stored, chosen)
        model.name_or_path = str(stored.directory)
        return model if chosen.device is None else model.to(chosen.device)

    @classmethod
    def from_stored(cls, stored: Stored, chosen: Loading) -> TwinModel:
        """The model of a directory that has been read, with its shared body loaded from there."""
        raise NotImplementedError

    def save_pretrained(self, save_directory: Any, **_: Any) -> None:
        """Write the model's directory (docs/model.md), whole or not at all; the tokenizer is not in it."""
        save(self, Path(save_directory))

    def get_input_embeddings(self) -> Any:
        return self.model.get_input_embeddings()

    def get_output_embeddings(self) -> Any:
        return self.model.get_output_embeddings()

    def compile(self, *arguments: Any, **options: Any) -> None:
        """torch.compile of the body's forward pass, in place; heads and router stay as they are."""
        self.body.compile(*arguments, **options)

    @torch.no_grad()
    def route(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **batch: Any) -> torch.Tensor:
        """Mixing weights (batch, T), fp32, of inputs, from the shared expert's features of them."""
        if self.router is None:
            raise ValueError("this model has no router: give weights")
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        batch = self._with_positions({"input_ids": input_ids, **batch}, mask)
        pooler, awaited = getattr(self.body, POOLER, None), self._awaited
        self._awaited = None
        if pooler is not None:
            self.body.pooler = None
        try:
            with self.gates.holding(None):
                features = features_of(self.body, self.router.features, mask, **batch)
        finally:
            self._awaited = awaited
            if pooler is not None:
                self.body.pooler = pooler
        return self.router.weights(features)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        weights: torch.Tensor | None = None,
        tasks: Sequence[str] | None = None,
        **batch: Any,
    ) -> Any:
        """Answer a tokenised batch of mixed tasks; gives the architecture's own output, and `weights` (batch, T) in it
        (None for a model without a router).

        weights (batch, T) replaces the router; tasks, a name a row, says whose private parameters answer each row
        instead of the routed task's (the one of the largest weight).
        """
        if input_ids is None:
            raise ValueError("give input_ids: a router reads tokens")
        if batch.get("labels") is not None:
            raise ValueError("a batch of mixed tasks has no one loss: leave out labels")
        if batch.get("return_dict") is False:
            raise ValueError("a tuple has no place for the weights: leave out return_dict")
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        self._check(weights, tasks, len(input_ids))
        if weights is None and self.router is not None and mask.shape[1] != input_ids.shape[1]:
            raise ValueError("give weights: after a cache the prompt is no longer seen, which the router reads")
        within = weights is None and self.onepass
        if weights is None and self.router is not None and not within:
            weights = self.route(input_ids, mask, **_prompt_part(batch))
        batch = self._with_positions({"input_ids": input_ids, **batch}, mask)
        batch["attention_mask"] = mask
        if within:
            return self._answer_within(batch, mask, tasks)
        mixture = Mixture.of(weights, self._chosen(weights, tasks, input_ids.device))
        order = None if self._causal else order_by_task(mixture)
        if order is not None:
            batch = rows_in_order(batch, order, len(input_ids))
            mixture = Mixture.of(*(None if one is None else one[order] for one in (mixture.weights, mixture.tasks)))
        with self.gates.holding(mixture):
            output = self.model(**batch)
        if order is not None:
            output = output_in_order(output, order.argsort(), len(input_ids))
        return self._completed(output, weights)

    def _answer_within(self, batch: dict[str, Any], mask: torch.Tensor, tasks: Sequence[str] | None) -> Any:
        """One pass: the weights are computed when the forward pass comes to the layer that the router reads."""
        with self.gates.holding(None):
            self.gates.pending, self._awaited = True, (mask, tasks)
            try:
                output = self.model(**batch)
            finally:
                self._awaited = None
            mixture = self.gates.mixture
        return self._completed(output, None if mixture is None else mixture.weights)

    def _route_within(self, _: Any, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        if self._awaited is None or self.router is None:
            return
        mask, tasks = self._awaited
        with torch.no_grad():
            weights = self.router.weights(pool(entering(arguments, named), mask, self._causal))
        self.gates.set(Mixture.of(weights, self._chosen(weights, tasks, weights.device)))

    def _completed(self, output: Any, weights: torch.Tensor | None) -> Any:
        output["weights"] = weights
        return output

    def _with_positions(self, batch: dict[str, Any], mask: torch.Tensor) -> dict[str, Any]:
        """Positions that count from each row's first token, wherever the padding is (for causal bodies)."""
        if not self._positions or batch.get("position_ids") is not None:
            return batch
        positions = (mask.long().cumsum(-1) - 1).clamp(min=0)
        return {**batch, "position_ids": positions[:, -batch["input_ids"].shape[1] :]}

    def _check(self, weights: torch.Tensor | None, tasks: Sequence[str] | None, rows: int) -> None:
        if weights is not None and tuple(weights.shape) != (rows, len(self.tasks)):
            raise ValueError(f"weights are {tuple(weights.shape)}, but this batch needs {(rows, len(self.tasks))}")
        if tasks is None:
            if weights is None and self.router is None:
                raise ValueError("a static model does not know its inputs' tasks: give tasks, a name a row")
            return
        if len(tasks) != rows:
            raise ValueError(f"{len(tasks)} tasks for {rows} rows; give one a row")
        for name in set(tasks) - set(self.tasks):
            raise ValueError(unknown("task", name, self.tasks))

    def _chosen(self, weights: torch.Tensor | None, tasks: Sequence[str] | None, device: torch.device) -> torch.Tensor:
        """Number of the task whose private parameters answer each row."""
        if tasks is not None:
            return torch.tensor([self.tasks.index(name) for name in tasks], device=device)
        if weights is None:
            raise ValueError("give weights, or tasks, a name a row")
        return weights.argmax(-1)


class TwinForSequenceClassification(TwinModel):
    """A merged sequence classifier: a head a task, logits padded with -inf where a row's head is smaller.

    body: the shared expert (an `AutoModel`). labels: each task's label count (1: a regression), in the router's order.
    private: each task's private parameters by name, its head among them. exclusive: each task's vector.
    """

    family = "encoder"

    def __init__(
        self,
        body: Any,
        labels: Mapping[str, int],
        private: Mapping[str, Tensors],
        exclusive: Mapping[str, ExclusiveVector] | None = None,
        router: Router | None = None,
        masked: MaskedVectors | None = None,
        onepass: bool = False,
        record: Mapping[str, Any] | None = None,
    ):
        counts = sorted(set(labels.values()))
        skeletons = {count: classifier_on_meta(with_labels(body.config, count)) for count in counts}
        model: Any = skeletons[counts[-1]]
        beside = Beside(list(labels), private, exclusive or {}, masked).canonical(model.base_model_prefix)
        gates = Gates()
        place_body(model, body, beside, gates)
        place_heads(model, {task: skeletons[labels[task]] for task in labels}, beside, gates)
        super().__init__(model, beside, gates, router, onepass, record)
        self.labels = dict(labels)

    @classmethod
    def from_stored(cls, stored: Stored, chosen: Loading) -> TwinForSequenceClassification:
        body = load_body(stored.directory, chosen.dtype, **chosen.options)
        labels = {task: entry["labels"] for task, entry in stored.record["tasks"].items()}
        return cls(
            body,
            labels,
            stored.private,
            stored.exclusive,
            stored.router,
            stored.masked,
            onepass=stored.onepass,
            record=stored.record,
        )

    def _completed(self, output: Any, weights: torch.Tensor | None) -> Any:
        missing = max(self.labels.values()) - output.logits.shape[-1]
        if missing:
            output["logits"] = nn.functional.pad(output.logits, (0, missing), value=-torch.inf)
        return super()._completed(output, weights)


class TwinForCausalLM(TwinModel, GenerationMixin):
    """A merged language model. `model` is the shared expert with its output layer."""

    family = "decoder"

    def __init__(
        self,
        model: Any,
        tasks: Sequence[str],
        private: Mapping[str, Tensors] | None = None,
        exclusive: Mapping[str, ExclusiveVector] | None = None,
        router: Router | None = None,
        onepass: bool = False,
        record: Mapping[str, Any] | None = None,
    ):
        beside = Beside(list(tasks), private or {}, exclusive or {}).canonical(model.base_model_prefix)
        super().__init__(model, beside, Gates(), router, onepass, record)
        self.generation_config = model.generation_config

    @classmethod
    def from_stored(cls, stored: Stored, chosen: Loading) -> TwinForCausalLM:
        return cls(
            load_language_model(stored.directory, chosen.dtype, **chosen.options),
            stored.tasks,
            stored.private,
            stored.exclusive,
            stored.router,
            onepass=stored.onepass,
            record=stored.record,
        )

    @torch.no_grad()
    def generate(
        self,
        inputs: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        weights: torch.Tensor | None = None,
        tasks: Sequence[str] | None = None,
        **options: Any,
    ) -> Any:
        """transformers' `generate` for a batch of mixed tasks, each row's weights fixed from its prompt.

        Prompts of several lengths are padded on the left, as transformers needs it. weights (batch, T) replaces the
        router; tasks, a name a row, the routed task's private parameters.
        """
        ids = options.pop("input_ids", None) if inputs is None else inputs
        if ids is None:
            raise ValueError("give input_ids: a router reads tokens")
        mask = torch.ones_like(ids) if attention_mask is None else attention_mask
        self._check(weights, tasks, len(ids))
        if weights is None and self.router is not None:
            weights = self.route(ids, mask)
        with self.gates.holding(Mixture.of(weights, self._chosen(weights, tasks, ids.device))):
            return self.model.generate(input_ids=ids, attention_mask=mask, **options)


def _own_config(config: Any, name: str) -> Any:
    own = copy.deepcopy(config)
    own.architectures = [name]
    return own


def _layer_read(router: Router | None) -> int:
    layer = None if router is None else single_layer(router.features)
    if layer is None:
        raise ValueError("onepass needs a router that reads the embedding or one layer")
    return layer


def _prompt_part(batch: Mapping[str, Any]) -> dict[str, Any]:
    """What of a batch the router's own pass takes."""
    return {name: batch[name] for name in ("token_type_ids", "position_ids") if batch.get(name) is not None}
