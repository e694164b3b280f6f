"""A merged sequence classifier: the family of encoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from twin_merging.checkpoints.experts import Expert
from twin_merging.checkpoints.groups import PROTOCOLS
from twin_merging.checkpoints.kinds import Classifier
from twin_merging.checkpoints.labels import label_axes, label_count
from twin_merging.checkpoints.tokenizers import load_tokenizer, with_padding
from twin_merging.checkpoints.vocabularies import vocabulary_file
from twin_merging.errors import UserError
from twin_merging.model.adapters import ExclusiveVector
from twin_merging.model.answers import Answer
from twin_merging.model.forms import FORMS
from twin_merging.model.gates import Gates
from twin_merging.model.loading import Loading, Stored, configured_by, load_body, load_expert
from twin_merging.model.masked import MaskedVectors
from twin_merging.model.parts import Beside, Tensors, place_body, place_heads
from twin_merging.model.routed import Named
from twin_merging.model.twin import TwinModel
from twin_merging.routing.ngrams import Texts
from twin_merging.routing.router import Router
from twin_merging.routing.verdicts import Routed
from twin_merging.tasks.answering import Waiting


class TwinForSequenceClassification(TwinModel):
    """A merged sequence classifier: a head a task, logits padded with -inf where a row's head is smaller.

    body: the shared expert (an `AutoModel`). labels: each task's label count (1: a regression), in the router's order,
    and behind them those of the tasks in `left_out`.
    private: each task's private parameters by name, its head among them. exclusive: each task's vector.
    """

    form = FORMS["encoder"]

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
        left_out: Sequence[str] = (),
    ):
        counts = sorted(set(labels.values()))
        skeletons: dict[int, Any] = {count: Classifier(count).on_meta(body.config) for count in counts}
        model = skeletons[counts[-1]]
        merged = [task for task in labels if task not in left_out]
        beside = Beside(merged, private, exclusive or {}, masked, left_out=list(left_out))
        beside = beside.canonical(model.base_model_prefix)
        gates = Gates()
        place_body(model, body, beside, gates)
        place_heads(model, {task: skeletons[labels[task]] for task in beside.known}, beside, gates)
        super().__init__(model, beside, gates, router, onepass, record)
        self.labels = dict(labels)

    @classmethod
    def from_stored(cls, stored: Stored, chosen: Loading) -> TwinForSequenceClassification:
        body = load_body(stored.directory, chosen.dtype, **chosen.options)
        if body.config.pad_token_id is None and vocabulary_file(stored.directory):
            with_padding(body.config, load_tokenizer(stored.directory).pad_token_id)
        about = {**stored.record["tasks"], **stored.record.get("left_out", {})}
        labels = {task: entry["labels"] for task, entry in about.items()}
        return cls(
            body,
            labels,
            stored.private,
            stored.exclusive,
            stored.router,
            stored.masked,
            onepass=stored.onepass,
            record=stored.record,
            left_out=stored.left_out,
        )

    @classmethod
    def unmerged(
        cls, base: Path, experts: Mapping[str, Expert], tasks: Mapping[str, Any], body: str | None, dtype: Any
    ) -> TwinForSequenceClassification:
        own = None if body is None else experts[body]
        model = load_body(base, dtype, configured=configured_by(own))
        if own is not None:
            load_expert(model, own)
        private = {task: expert.private(PROTOCOLS["strict"]) for task, expert in experts.items()}
        return cls(model, {task: own.labels for task, own in tasks.items()}, private)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        weights: torch.Tensor | None = None,
        tasks: Named = None,
        texts: Texts | None = None,
        **batch: Any,
    ) -> Any:
        """As for all: `TwinModel.forward`. On a causal body a row is answered at its last token, which transformers
        finds by the configuration's padding: it stands wherever the mask says padding."""
        padding = self.config.pad_token_id
        if self._causal and input_ids is not None and attention_mask is not None and padding is not None:
            input_ids = input_ids.masked_fill(attention_mask == 0, padding)
        return super().forward(input_ids, attention_mask, weights, tasks, texts, **batch)

    @torch.inference_mode()
    def answer_batch(
        self, batch: Any, tokenizer: Any, rows: Sequence[Waiting], tasks: Named
    ) -> tuple[list[Any], Routed | None]:
        """An answer is logits (largest label count,), fp32, -inf where the row's head is smaller."""
        output = self(**batch, tasks=tasks, **self._raw([row.texts for row in rows]))
        routed = None if output.weights is None else Routed(output.weights, output.routed)
        return list(output.logits.float().cpu()), routed

    @torch.inference_mode()
    def answer_one(
        self, batch: Any, tokenizer: Any, task: str | None, max_new_tokens: int, texts: Sequence[str] = ()
    ) -> Answer:
        output = self(**batch, tasks=None if task is None else [task], **self._raw([texts]))
        weights = {} if output.weights is None else dict(zip(self.tasks, output.weights[0].tolist(), strict=True))
        chosen = task or self.tasks[output.routed[0]]
        logits = output.logits[0, : self.labels[chosen]].float()
        if self.labels[chosen] == 1:
            return Answer(chosen, weights, value=float(logits[0]))
        return Answer(chosen, weights, probabilities=logits.softmax(-1).tolist())

    def single_on_meta(self, task: str) -> Any:
        return Classifier(self.labels[task]).on_meta(self.body.config)

    @classmethod
    def about_head(cls, config: Any, head: Mapping[str, torch.Tensor], where: str) -> dict[str, Any]:
        count = label_count(config, head)
        if count is None:
            raise UserError(f"{where} has no head '{next(iter(label_axes(Classifier(2), config)))}'; name a sequence "
                            "classifier")  # fmt: skip
        return Classifier(count).head

    def about_task(self, task: str) -> dict[str, Any]:
        return Classifier(self.labels[task]).head

    def _completed(self, output: Any, routed: Routed | None) -> Any:
        missing = max(self.labels.values()) - output.logits.shape[-1]
        if missing:
            output["logits"] = nn.functional.pad(output.logits, (0, missing), value=-torch.inf)
        return super()._completed(output, routed)
