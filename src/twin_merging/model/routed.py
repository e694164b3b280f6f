"""What of a merged model finds each row's weights: its router, what that reads, and whose private parameters answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from twin_merging.errors import unknown
from twin_merging.model.gates import Gates, Mixture
from twin_merging.model.joined import evenly
from twin_merging.model.parts import POOLER
from twin_merging.routing.features import Pooling, features_of
from twin_merging.routing.fixed import FixedRouter, OracleRouter
from twin_merging.routing.layers import LAST, Features, of_one_body, single_layer
from twin_merging.routing.ngrams import Texts
from twin_merging.routing.projection import AT_MOST, THRESHOLD, ProjectionRouter, keep_above
from twin_merging.routing.router import Router
from twin_merging.routing.verdicts import Routed
from twin_merging.tasks.reading import positions_of

Named = Sequence[str | None] | None  # whose private parameters answer each row; None for the routed task's


class RoutedModel(PreTrainedModel):
    """A model whose router, if it has one, weighs the tasks for each row of a batch. `TwinModel` sets its fields."""

    model: Any
    router: Router | None
    gates: Gates
    reader: Any
    tasks: list[str]
    left_out: list[str]
    has_private: bool
    _positions: bool
    _awaited: tuple[Pooling, Named, Texts | None] | None

    @property
    def known(self) -> list[str]:
        """Every task whose private parameters can answer a row, in the order in which these are stacked."""
        return [*self.tasks, *self.left_out]

    @property
    def body(self) -> Any:
        return getattr(self.model, self.model.base_model_prefix)

    @property
    def needs_tasks(self) -> bool:
        """Whether it answers only inputs whose tasks are named: nothing in it finds them, and it depends on them."""
        return isinstance(self.router, OracleRouter) or (not self._finds_tasks and self.has_private)

    @property
    def reads_text(self) -> bool:
        """Whether its router needs each row's raw text beside the token ids."""
        return self.router is not None and self.router.reads_text

    @property
    def _finds_tasks(self) -> bool:
        return self.router is not None and not isinstance(self.router, FixedRouter)

    @torch.no_grad()
    def route(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        texts: Texts | None = None,
        **batch: Any,
    ) -> torch.Tensor:
        """Mixing weights (batch, T), fp32, of inputs, from the features that the router reads of them; all 0 of an
        input that comes from none of the tasks. texts: the inputs as they were before the tokenizer, a text or a pair a
        row, for a router that `reads_text`."""
        return self.routed(input_ids, attention_mask, texts, **batch).weights

    @torch.no_grad()
    def routed(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        texts: Texts | None = None,
        **batch: Any,
    ) -> Routed:
        """The same, with the task that each input is routed to."""
        if self.router is None:
            raise ValueError("this model has no router: give weights")
        if isinstance(self.router, FixedRouter):
            return Routed.by(self.router.weights_of(len(input_ids), None, input_ids.device))
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        batch = self._with_positions({"input_ids": input_ids, **batch}, mask)
        routed = self.router.routed(self.router.read(self._hidden(mask, batch), texts))
        if self.gates.joined and not isinstance(self.router, ProjectionRouter):  # which keeps few by its own options
            return Routed(keep_above(routed.weights, THRESHOLD, AT_MOST), routed.tasks)
        return routed

    def _hidden(self, mask: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
        """The features (batch, d) of hidden states that the router reads: the base's, or the shared expert's."""
        router: Any = self.router
        if self.reader is not None:
            return features_of(self.reader, of_one_body(router.features), mask, router.marks, **batch)
        mixture = self._of_all(mask) if self.gates.joined else None
        return self.states(mask, router.features, router.marks, mixture, **batch)

    def states(
        self,
        mask: torch.Tensor,
        features: Features = LAST,
        marks: torch.Tensor | None = None,
        mixture: Mixture | None = None,
        **batch: torch.Tensor,
    ) -> torch.Tensor:
        """Hidden states of a batch as `features_of` gives them, (batch, d): of the shared body, or under a mixture. The
        pooler, which may be a task's own, has no part in them."""
        pooler, awaited = getattr(self.body, POOLER, None), self._awaited
        self._awaited = None
        if pooler is not None:
            self.body.pooler = None
        try:
            with self.gates.holding(mixture):
                return features_of(self.body, features, mask, marks, **batch)
        finally:
            self._awaited = awaited
            if pooler is not None:
                self.body.pooler = pooler

    def _of_all(self, mask: torch.Tensor) -> Mixture:
        """The merge of all tasks for each row of a batch, which a joined model's router reads."""
        return Mixture.of(evenly(torch.ones(len(mask), len(self.tasks), device=mask.device)), None)

    def routed_of(self, input_ids: torch.Tensor, mask: torch.Tensor, tasks: Named, **batch: Any) -> Routed | None:
        """Mixing weights of inputs whose tasks may be named; None for a model without a router."""
        if isinstance(self.router, FixedRouter):
            return Routed.by(self.router.weights_of(len(input_ids), tasks, input_ids.device))
        return None if self.router is None else self.routed(input_ids, mask, **batch)

    def _raw(self, texts: Texts | None) -> dict[str, Any]:
        """The raw texts as an argument, where the router reads them."""
        return {"texts": texts} if self.reads_text else {}

    def _with_positions(self, batch: dict[str, Any], mask: torch.Tensor) -> dict[str, Any]:
        """Positions that count from each row's first token, wherever the padding is (for causal bodies)."""
        if not self._positions or batch.get("position_ids") is not None:
            return batch
        return {**batch, "position_ids": positions_of(mask)[:, -batch["input_ids"].shape[1] :]}

    def _check(self, weights: torch.Tensor | None, tasks: Named, rows: int) -> None:
        if weights is not None and tuple(weights.shape) != (rows, len(self.tasks)):
            raise ValueError(f"weights are {tuple(weights.shape)}, but this batch needs {(rows, len(self.tasks))}")
        if tasks is None:
            if weights is None and self.needs_tasks:
                kind = "static model" if self.router is None else f"model of {self.router.kind} weights"
                raise ValueError(f"a {kind} does not know its inputs' tasks: give tasks, a name a row")
            return
        if len(tasks) != rows:
            raise ValueError(f"{len(tasks)} tasks for {rows} rows; give one a row")
        known = {*self.known, *([] if weights is None and not self._finds_tasks else [None])}
        for name in set(tasks) - known:
            raise ValueError(unknown("task", str(name), self.known))

    def _mixture(self, routed: Routed | None, tasks: Named, device: torch.device) -> Mixture | None:
        """Whose knowledge answers each row: the mixture by weights, and private parameters of `tasks`, or of the task
        that it is routed to. None for a static model of which nothing is private: its body answers every row."""
        if routed is not None and self.gates.joined:
            routed = Routed(evenly(routed.weights), routed.tasks)
        if tasks is None:
            return None if routed is None else Mixture.of(*routed)
        chosen = torch.tensor([-1 if name is None else self.known.index(name) for name in tasks], device=device)
        if routed is None:
            return Mixture.of(None, chosen)
        return Mixture.of(routed.weights, torch.where(chosen < 0, routed.tasks, chosen))


def layer_read(router: Router | None) -> int:
    layer = None if router is None else single_layer(router.features)
    if layer is None:
        raise ValueError("onepass needs a router that reads the embedding or one layer")
    return layer
