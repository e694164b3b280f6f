"""A merged language model: the family of decoders."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationMixin, StoppingCriteria, StoppingCriteriaList

from twin_merging.checkpoints.experts import Expert
from twin_merging.checkpoints.generation import plain_greedy
from twin_merging.errors import UserError
from twin_merging.model.adapters import ExclusiveVector
from twin_merging.model.answers import Answer
from twin_merging.model.factor_files import SharedFactors
from twin_merging.model.forms import FORMS
from twin_merging.model.gates import Gates
from twin_merging.model.loading import Loading, Stored, configured_by, load_expert, load_language_model
from twin_merging.model.parts import Beside, Tensors
from twin_merging.model.twin import TwinModel
from twin_merging.routing.router import Router
from twin_merging.tasks.generation import Ending


class TwinForCausalLM(TwinModel, GenerationMixin):
    """A merged language model. `model` is the shared expert with its output layer."""

    form = FORMS["decoder"]
    writes = True
    padding_side = "left"

    def __init__(
        self,
        model: Any,
        tasks: Sequence[str],
        private: Mapping[str, Tensors] | None = None,
        exclusive: Mapping[str, ExclusiveVector] | None = None,
        router: Router | None = None,
        onepass: bool = False,
        record: Mapping[str, Any] | None = None,
        factored: Mapping[str, SharedFactors] | None = None,
    ):
        """factored: the shared factors of matrices whose exclusive vectors are in factor space."""
        beside = Beside(list(tasks), private or {}, exclusive or {}, factored=factored or {})
        beside = beside.canonical(model.base_model_prefix)
        super().__init__(model, beside, Gates(), router, onepass, record)
        self.generation_config = model.generation_config

    @classmethod
    def from_stored(cls, stored: Stored, chosen: Loading) -> TwinForCausalLM:
        if stored.masked is not None:
            raise UserError(f"{stored.directory}: a language model with masks cannot be run; merge by another method")
        return cls(
            load_language_model(stored.directory, chosen.dtype, **chosen.options),
            stored.tasks,
            stored.private,
            stored.exclusive,
            stored.router,
            onepass=stored.onepass,
            record=stored.record,
            factored=stored.factored,
        )

    @classmethod
    def unmerged(
        cls, base: Path, experts: Mapping[str, Expert], tasks: Mapping[str, Any], body: str | None
    ) -> TwinForCausalLM:
        own = None if body is None else experts[body]
        model = load_language_model(base, configured=configured_by(own))
        if own is not None:
            load_expert(model, own)
        return cls(model, list(tasks))

    def answer_batch(
        self, batch: Any, tokenizer: Any, rows: Sequence[Any], tasks: Sequence[str] | None
    ) -> tuple[list[Any], torch.Tensor | None]:
        """An answer is the text that is written, greedily, up to the end that the row's task says."""
        return self._write(batch, tokenizer, [row.generation for row in rows], tasks)

    def answer_one(self, batch: Any, tokenizer: Any, task: str | None, max_new_tokens: int) -> Answer:
        ending = Ending(max_new_tokens=max_new_tokens, stop=())
        texts, found = self._write(batch, tokenizer, [ending], None if task is None else [task])
        weights = {} if found is None else dict(zip(self.tasks, found[0].tolist(), strict=True))
        return Answer(task or max(weights, key=weights.__getitem__, default=None), weights, text=texts[0])

    def single_on_meta(self, task: str) -> Any:
        with torch.device("meta"):
            return type(self.model)(copy.deepcopy(self.model.config))

    def save_beside(self, directory: Path) -> None:
        self.generation_config.save_pretrained(directory)

    @contextmanager
    def plainly(self) -> Iterator[None]:
        """Within the block `generate` follows nothing of the model's generation_config.json but its tokens: the texts
        that are scored are those of a plain search, whatever a chat model asks for (penalties, sampling)."""
        own = self.model.generation_config
        self.model.generation_config = plain_greedy(own)
        try:
            yield
        finally:
            self.model.generation_config = own

    @torch.inference_mode()
    def _write(
        self, batch: Any, tokenizer: Any, endings: Sequence[Ending], tasks: Sequence[str] | None
    ) -> tuple[list[str], torch.Tensor | None]:
        """The text that each row of a batch of prompts, padded on the left, is continued by."""
        ids, mask = batch["input_ids"], batch["attention_mask"]
        weights = None if self.router is None else self.route(ids, mask)
        with self.plainly():
            tokens = self.generate(
                ids,
                mask,
                weights=weights,
                tasks=tasks,
                max_new_tokens=max(ending.max_new_tokens for ending in endings),
                do_sample=False,
                num_beams=1,
                pad_token_id=tokenizer.pad_token_id,
                stopping_criteria=StoppingCriteriaList([_Ended(ids.shape[1], endings, tokenizer)]),
            )
        new = tokens[:, ids.shape[1] :]
        written = [row[: ending.max_new_tokens] for row, ending in zip(new, endings, strict=True)]
        texts = tokenizer.batch_decode(written, skip_special_tokens=True)
        return [ending.cut(text) for ending, text in zip(endings, texts, strict=True)], weights

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
        with self.gates.holding(self._mixture(weights, tasks, ids.device)):
            return self.model.generate(input_ids=ids, attention_mask=mask, **options)

    # What transformers gives every language model, and what does not work for one whose rows have weights of their own.

    def generate_batch(self, *_: Any, **__: Any) -> Any:
        raise _not_continuous("generate_batch")

    def init_continuous_batching(self, *_: Any, **__: Any) -> Any:
        raise _not_continuous("init_continuous_batching")

    def continuous_batching_context_manager(self, *_: Any, **__: Any) -> Any:
        raise _not_continuous("continuous_batching_context_manager")


def _not_continuous(name: str) -> NotImplementedError:
    return NotImplementedError(
        f"{name}: continuous batching lays all prompts in one row, but a merged model weighs each row by its own "
        "prompt; call generate with prompts padded on the left, or export one mixture as a plain model"
    )


class _Ended(StoppingCriteria):
    """Which rows of a batch have written all that they may: their own number of tokens, or a text that ends them."""

    def __init__(self, start: int, endings: Sequence[Ending], tokenizer: Any):
        self.start, self.endings, self.tokenizer = start, endings, tokenizer

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> Any:
        new = input_ids[:, self.start :]
        ended = [new.shape[1] >= ending.max_new_tokens for ending in self.endings]
        if any(ending.stop for ending in self.endings):
            texts = self.tokenizer.batch_decode(new, skip_special_tokens=True)
            stopped = [any(s in text for s in e.stop) for e, text in zip(self.endings, texts, strict=True)]
            ended = [one or other for one, other in zip(ended, stopped, strict=True)]
        return torch.tensor(ended, device=input_ids.device)
