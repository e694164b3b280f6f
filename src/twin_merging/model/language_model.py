"""A merged language model: the family of decoders."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationMixin

from twin_merging.checkpoints.experts import Expert
from twin_merging.checkpoints.generation import GENERATION
from twin_merging.errors import UserError
from twin_merging.io.files import write_json
from twin_merging.model.adapters import ExclusiveVector
from twin_merging.model.answers import Answer
from twin_merging.model.factor_files import SharedFactors
from twin_merging.model.forms import FORMS
from twin_merging.model.gates import Gates, Mixture
from twin_merging.model.loading import Loading, Stored, configured_by, load_expert, load_language_model
from twin_merging.model.parts import Beside, Tensors
from twin_merging.model.routed import Named
from twin_merging.model.twin import TwinModel
from twin_merging.routing.router import Router
from twin_merging.routing.verdicts import Routed
from twin_merging.tasks.answering import Waiting
from twin_merging.tasks.endings import Ending
from twin_merging.tasks.likelihoods import option_likelihoods
from twin_merging.tasks.writing import follow, write


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
        left_out: Sequence[str] = (),
    ):
        """factored: the shared factors of matrices whose exclusive vectors are in factor space; left_out: tasks that
        are not merged and may be named all the same."""
        beside = Beside(list(tasks), private or {}, exclusive or {}, factored=factored or {}, left_out=list(left_out))
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
            left_out=stored.left_out,
        )

    @classmethod
    def unmerged(
        cls, base: Path, experts: Mapping[str, Expert], tasks: Mapping[str, Any], body: str | None, dtype: Any
    ) -> TwinForCausalLM:
        own = None if body is None else experts[body]
        model = load_language_model(base, dtype, configured=configured_by(own))
        if own is not None:
            load_expert(model, own)
        return cls(model, list(tasks))

    @torch.inference_mode()
    def answer_batch(
        self, batch: Any, tokenizer: Any, rows: Sequence[Waiting], tasks: Named
    ) -> tuple[list[Any], Routed | None]:
        """An answer is what is written (`Written`), or the likelihood of each option: all rows are answered one way.
        Prompts are padded on the left."""
        holding, routed = self._routed(batch, tasks)
        if _has_options(rows):
            return option_likelihoods(self.model, batch, [row.example.options for row in rows], holding), routed
        return write(self.model, batch, _endings(rows), tokenizer, holding), routed

    @torch.inference_mode()
    def answer_again(
        self,
        batch: Any,
        tokenizer: Any,
        rows: Sequence[Waiting],
        tasks: Named,
        stored: Sequence[Mapping[str, Any]],
    ) -> tuple[list[Any], Routed | None]:
        """Of an answer that was written, what the model says of each of its tokens (`Followed`)."""
        if _has_options(rows):
            return self.answer_batch(batch, tokenizer, rows, tasks)
        holding, routed = self._routed(batch, tasks)
        tokens = [_tokens(own, self.get_input_embeddings().num_embeddings) for own in stored]
        return follow(self.model, batch, tokens, _endings(rows), tokenizer, holding), routed

    @torch.inference_mode()
    def answer_one(
        self, batch: Any, tokenizer: Any, task: str | None, max_new_tokens: int, texts: Sequence[str] = ()
    ) -> Answer:
        ending = Ending(max_new_tokens=max_new_tokens, stop=())
        holding, found = self._routed(batch, None if task is None else [task])
        [written] = write(self.model, batch, [ending], tokenizer, holding)
        weights = {} if found is None else dict(zip(self.tasks, found.weights[0].tolist(), strict=True))
        chosen = None if found is None else self.tasks[found.tasks[0]]
        return Answer(task or chosen, weights, text=written.text)

    def single_on_meta(self, task: str) -> Any:
        with torch.device("meta"):
            return type(self.model)(copy.deepcopy(self.model.config))

    def save_beside(self, directory: Path) -> None:
        write_json(directory / GENERATION, self.generation_config.to_diff_dict())

    def _routed(
        self, batch: Any, tasks: Named
    ) -> tuple[Callable[[Sequence[int]], AbstractContextManager[None]], Routed | None]:
        """What the router says of prompts, and the mixture that this fixes for passes over some of the rows."""
        ids, mask = batch["input_ids"], batch["attention_mask"]
        routed = self.routed_of(ids, mask, tasks)
        self._check(None if routed is None else routed.weights, tasks, len(ids))

        def holding(rows: Sequence[int]) -> AbstractContextManager[None]:
            chosen = None if routed is None else Routed(*(one[list(rows)] for one in routed))
            own = None if tasks is None else [tasks[row] for row in rows]
            return self.gates.holding(self._mixture(chosen, own, ids.device))

        return holding, routed

    def mixture(self, weights: torch.Tensor | None, tasks: torch.Tensor | None) -> Mixture | None:
        """What `gates` hold in passes of `model` over a batch whose rows have these weights (rows, T; None for a model
        without a router), and the private parameters of the tasks with these numbers (rows,) among those known."""
        if weights is not None and tasks is not None:
            return self._mixture(Routed(weights, tasks), None, self.device)
        return None if tasks is None else Mixture.of(None, tasks)

    @torch.no_grad()
    def generate(
        self,
        inputs: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        weights: torch.Tensor | None = None,
        tasks: Named = None,
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
        routed = self.routed_of(ids, mask, tasks) if weights is None else Routed.by(weights)
        with self.gates.holding(self._mixture(routed, tasks, ids.device)):
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


def _endings(rows: Sequence[Waiting]) -> list[Ending]:
    """When the answer to each row ends, as the views of this family say it."""
    views: list[Any] = [row.view for row in rows]
    return [view.generation for view in views]


def _has_options(rows: Sequence[Waiting]) -> bool:
    kinds = {bool(row.example.options) for row in rows}
    if len(kinds) != 1:
        raise ValueError("rows with options and rows without are answered in batches of their own")
    return kinds.pop()


def _tokens(stored: Mapping[str, Any], count: int) -> list[int]:
    """The tokens of a stored answer, if they are of a vocabulary of so many."""
    tokens = [] if stored["tokens"] is None else [int(token) for token in stored["tokens"]]
    for token in tokens:
        if not 0 <= token < count:
            raise ValueError(f"token {token} is none of the model's {count}")
    return tokens
