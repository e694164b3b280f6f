"""The merged model as one module: shared body, private parameters, exclusive vectors, router.

theta(x) = theta_s + sum_t w_t(x) v_t (paper, section 3.3) for each row of a batch, without building theta(x).
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from twin_merging.checkpoints.architectures import is_causal, layers_path
from twin_merging.checkpoints.experts import Expert
from twin_merging.errors import UserError
from twin_merging.io.sharding import LIMIT, Shards
from twin_merging.model.answers import Answer
from twin_merging.model.first_layers import load_first_layers
from twin_merging.model.forms import Form, form_of
from twin_merging.model.gates import Gates, Mixture
from twin_merging.model.loading import Loading, Stored, read_directory
from twin_merging.model.order import order_by_task, output_in_order, rows_in_order
from twin_merging.model.parts import Beside, gate_model
from twin_merging.model.routed import Named, RoutedModel, layer_read
from twin_merging.model.saving import save
from twin_merging.routing.features import Pooling, entering
from twin_merging.routing.ngrams import Texts
from twin_merging.routing.router import Router
from twin_merging.routing.verdicts import Routed
from twin_merging.tasks.answering import Waiting
from twin_merging.tasks.task import Answers


class TwinModel(RoutedModel):
    """A merged model that answers batches of mixed tasks; `from_pretrained` gives one of its two subclasses.

    With a router it is dynamic: each row is answered by the shared expert plus that row's mixture of exclusive vectors.
    Without, it is static, and the caller names each row's task. `model` is the architecture's own model, its layers
    gated in place; `record` is what merge.json says; `tasks` are those that are merged, in the router's order, and
    `left_out` others, of which it has the heads. `reader` has the base's first layers, where the router reads those and
    not the shared expert. A joined model (MASS) answers a row by the merge of the tasks that it has a weight for, and
    its router reads the merge of all of them. One forward pass at a time: a model is no place for two threads.
    """

    form: Form  # of its family's models on disk
    writes = False  # whether an answer is text, which is written behind the input
    padding_side: str | None = None  # where batches that it answers are padded; None: where the tokenizer pads
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
        self.reader: Any = None
        self.tasks, self.left_out = list(beside.tasks), list(beside.left_out)
        self.onepass, self.record = onepass, dict(record or {})
        self.has_private = beside.masked is not None or any(len(own) for own in beside.private.values())
        self._causal = is_causal(model.config)
        self._positions = self._causal and "position_ids" in inspect.signature(self.body.forward).parameters
        gate_model(model, beside, gates, layer_read(router) if onepass else None)
        self._awaited: tuple[Pooling, Named, Texts | None] | None = None
        self._found: Routed | None = None  # of the pass that runs
        if onepass:
            layer = self.body.get_submodule(layers_path(self.body))[layer_read(router)]
            layer.register_forward_pre_hook(self._route_within, with_kwargs=True)
        self.eval()

    @classmethod
    def from_pretrained(cls, directory: Any, *_: Any, **options: Any) -> TwinModel:
        """Load a merged model's directory, static or dynamic (or a repository of the Hub that holds one).

        options: dtype ("auto", the shared body's own, by default), device_map (one device), attn_implementation, and
        those that say where the Hub is. Raises UserError, naming the file, when one is missing or wrong.
        """
        chosen = Loading.of(**options)
        stored = read_directory(directory, chosen.hub)
        kind = class_of(stored.family, f"{stored.directory}/merge.json")
        if not issubclass(kind, cls):
            raise UserError(f"{stored.directory}: holds a {kind.__name__}; load it as that, or as TwinModel")
        model: Any = kind.from_stored(stored, chosen)
        model.gates.joined = stored.joined
        if stored.reader is not None:
            model.reader = load_first_layers(stored.reader, model.body, model.router.features)
        model.name_or_path = str(stored.directory)
        return model if chosen.device is None else model.to(chosen.device)

    @classmethod
    def from_stored(cls, stored: Stored, chosen: Loading) -> TwinModel:
        """The model of a directory that has been read, with its shared body loaded from there."""
        raise NotImplementedError

    @classmethod
    def unmerged(
        cls, base: Path, experts: Mapping[str, Expert], tasks: Mapping[str, Answers], body: str | None, dtype: Any
    ) -> TwinModel:
        """A model that is not merged: the base (body None), or one task's expert, with every task's own head on it.
        dtype: what its body is cast to."""
        raise NotImplementedError

    def answer_batch(
        self, batch: Any, tokenizer: Any, rows: Sequence[Waiting], tasks: Named
    ) -> tuple[list[Any], Routed | None]:
        """Each row's answer to a tokenised batch, as its task's view stores it, and what the router says of the batch.

        tasks: whose private parameters answer each row, None (of all rows, or of one) for the routed task's.
        """
        raise NotImplementedError

    def answer_again(
        self,
        batch: Any,
        tokenizer: Any,
        rows: Sequence[Waiting],
        tasks: Named,
        stored: Sequence[Mapping[str, Any]],
    ) -> tuple[list[Any], Routed | None]:
        """The same, to compare with what was stored of the answers before; for `faults` of the task's view."""
        return self.answer_batch(batch, tokenizer, rows, tasks)

    def answer_one(
        self, batch: Any, tokenizer: Any, task: str | None, max_new_tokens: int, texts: Sequence[str] = ()
    ) -> Answer:
        """The answer to a batch of one row, for people. task: whose private parameters answer; texts: the row's, as
        they were before the tokenizer."""
        raise NotImplementedError

    def single_on_meta(self, task: str) -> Any:
        """The architecture's own model for one task, with no memory behind its parameters."""
        raise NotImplementedError

    @classmethod
    def about_head(cls, config: Any, head: Mapping[str, torch.Tensor], where: str) -> dict[str, Any]:
        """What merge.json says of a task that has these parameters of its own. `where` is what an error names."""
        return {}

    def about_task(self, task: str) -> dict[str, Any]:
        """What merge.json says of a task."""
        return {}

    def save_beside(self, directory: Path) -> None:
        """Write what a model of this class has beside the files that all have."""

    def save_pretrained(self, save_directory: Any, max_shard_size: int | str = LIMIT, **_: Any) -> None:
        """Write the model's directory (docs/model.md), whole or not at all; the tokenizer is not in it.

        max_shard_size: of a file of the shared body, in bytes or as "5GB".
        """
        save(self, Path(save_directory), Shards.of(max_shard_size))

    def get_input_embeddings(self) -> Any:
        return self.model.get_input_embeddings()

    def get_output_embeddings(self) -> Any:
        return self.model.get_output_embeddings()

    def compile(self, *arguments: Any, **options: Any) -> None:
        """torch.compile of the body's forward pass, in place; heads and router stay as they are.

        Raises ValueError for a joined model, whose pass depends on which tasks each row keeps.
        """
        if self.gates.joined:
            raise ValueError("a model that merges each row's tasks cannot be compiled; use it as it is")
        self.body.compile(*arguments, **options)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        weights: torch.Tensor | None = None,
        tasks: Named = None,
        texts: Texts | None = None,
        **batch: Any,
    ) -> Any:
        """Answer a tokenised batch of mixed tasks; gives the architecture's own output, and in it `weights` (batch, T)
        and `routed` (batch,), the number of the task that each row is routed to (None for a model without a router).
        A row that comes from none of the tasks has weights of 0.

        weights (batch, T) replaces the router; tasks, a name a row, says whose private parameters answer each row
        instead of the routed task's (the one of the largest weight, which None in the place of a name stands for).
        texts: as for `route`; a model whose router does not read them ignores them.
        """
        if input_ids is None:
            raise ValueError("give input_ids: a router reads tokens")
        if batch.get("labels") is not None:
            raise ValueError("a batch of mixed tasks has no one loss: leave out labels")
        if batch.get("return_dict") is False:
            raise ValueError("a tuple has no place for the weights: leave out return_dict")
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        self._check(weights, tasks, len(input_ids))
        is_read = weights is None and self._finds_tasks
        if is_read and mask.shape[1] != input_ids.shape[1]:
            raise ValueError("give weights: after a cache the prompt is no longer seen, which the router reads")
        within = is_read and self.onepass
        routed = None if weights is None else Routed.by(weights)
        if routed is None and not within:
            routed = self.routed_of(input_ids, mask, tasks, **self._raw(texts), **_prompt_part(batch))
        batch = self._with_positions({"input_ids": input_ids, **batch}, mask)
        batch["attention_mask"] = mask
        if within:
            return self._answer_within(batch, mask, tasks, texts)
        mixture = self._mixture(routed, tasks, input_ids.device)
        order = None if self._causal or mixture is None else order_by_task(mixture)
        if order is not None and mixture is not None:
            batch = rows_in_order(batch, order, len(input_ids))
            mixture = Mixture.of(*(None if one is None else one[order] for one in (mixture.weights, mixture.tasks)))
        with self.gates.holding(mixture):
            output = self.model(**batch)
        if order is not None:
            output = output_in_order(output, order.argsort(), len(input_ids))
        return self._completed(output, routed)

    def _answer_within(self, batch: dict[str, Any], mask: torch.Tensor, tasks: Named, texts: Texts | None) -> Any:
        """One pass: the weights are computed when the forward pass comes to the layer that the router reads."""
        pooling = Pooling(mask, self._causal, batch["input_ids"], None if self.router is None else self.router.marks)
        with self.gates.holding(None):
            self.gates.pending, self._awaited = True, (pooling, tasks, texts)
            try:
                output = self.model(**batch)
            finally:
                self._awaited = None
            routed, self._found = self._found, None
        return self._completed(output, routed)

    def _route_within(self, _: Any, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        if self._awaited is None or self.router is None:
            return
        pooling, tasks, texts = self._awaited
        with torch.no_grad():
            hidden = pooling.of([entering(arguments, named)])
            self._found = self.router.routed(self.router.read(hidden, texts))
        self.gates.set(self._mixture(self._found, tasks, hidden.device))

    def _completed(self, output: Any, routed: Routed | None) -> Any:
        output["weights"], output["routed"] = (None, None) if routed is None else routed
        return output


def class_of(family: str, where: str = "family") -> type[TwinModel]:
    """The class of a family's merged models. `where` is what an error names."""
    form = form_of(family, where)
    return getattr(import_module(form.module), form.model)


def _own_config(config: Any, name: str) -> Any:
    own = copy.deepcopy(config)
    own.architectures = [name]
    return own


def _prompt_part(batch: Mapping[str, Any]) -> dict[str, Any]:
    """What of a batch the router's own pass takes."""
    return {name: batch[name] for name in ("token_type_ids", "position_ids") if batch.get(name) is not None}
