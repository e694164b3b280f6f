"""A model of a suite as lm-eval asks it: likelihoods of texts, and texts that are written.

lm-eval's own class for models of transformers pads on the right and gives no attention mask where it asks for
likelihoods, so a router would read padding. Here batches are padded on the left and masked, as in stage predict. A
row's weights come from what stands before the text that is scored or written, and from nothing of that text: otherwise
the likelihoods of all texts together would not be 1. (Imports lm-eval, which is installed by its own extra.)
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from twin_merging.errors import UserError
from twin_merging.io.device import moved
from twin_merging.jobs.progress import Progress
from twin_merging.tasks.answering import Waiting
from twin_merging.tasks.endings import Ending
from twin_merging.tasks.lengths import check_length, longest
from twin_merging.tasks.rows import batches, collate
from twin_merging.tasks.task import Encoded

MAX_NEW_TOKENS = 256  # lm-eval's own, for a task that does not say it
# What a task may say of how answers are written. Of sampling nothing applies where the likeliest token is taken.
WRITING = {"until", "max_gen_toks", "do_sample", "temperature", "top_p", "top_k"}
REMEDY = "lower lm_eval.num_fewshot"
Tokens = tuple[int, ...]


class Scored(NamedTuple):
    """Tokens whose likelihood is asked for. routed: what the router reads; context: what stands before them in the
    input."""

    routed: Tokens
    context: Tokens
    tokens: Tokens

    @property
    def given(self) -> tuple[Tokens, Tokens]:
        """What the model's pass depends on: rows that share it differ in the last token alone."""
        return self.routed, (*self.context, *self.tokens[:-1])


@dataclass(frozen=True)
class _Written:
    """How a row is answered, as far as a language model asks its view."""

    generation: Ending


class SuiteModel(TemplateLM):
    """model: a TwinForCausalLM; tokenizer: its own, with a padding token; batch_size: rows a batch."""

    def __init__(self, model: Any, tokenizer: Any, batch_size: int):
        super().__init__()
        self.model, self.tokenizer, self.batch_size = model, tokenizer, batch_size
        self.limit = longest(None, model.config, tokenizer)
        first = tokenizer("")["input_ids"][:1]  # what the tokenizer begins every text with, if anything
        self._first = first if first == [tokenizer.bos_token_id] else []
        self._short = "logits_to_keep" in inspect.signature(model.model.forward).parameters

    @property
    def eot_token_id(self) -> int:
        return self.tokenizer.eos_token_id

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text without a context."""
        for number in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id):
            if number is not None:
                return number
        raise UserError("the tokenizer has no token that begins or ends a text, so no text can be scored alone")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        ids = self.tokenizer(string, add_special_tokens=False, verbose=False)["input_ids"]
        first = [] if add_special_tokens is False else self._first
        return ids if ids[: len(first)] == first else [*first, *ids]

    # -- likelihoods

    def _loglikelihood_tokens(self, requests: Any, disable_tqdm: bool = False, **_: Any) -> list[tuple[float, bool]]:
        """For each ((context, option), their tokens): log p(option | context), and whether greedy search writes it."""
        rows = []
        for (context, option), *tokens in requests:
            before, after = map(tuple, tokens)
            if not after:
                raise UserError(f"lm-eval: option {option!r:.40} of {context!r:.40} adds no token; leave the task out")
            self._check((*before, *after[:-1]), f"lm-eval: {context!r:.40} with option {option!r:.40}")
            rows.append(Scored(before, before, after))
        return self._scores(rows)

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
        """log p of whole texts, in windows of the model's length, each token scored once.

        The router reads what stands before a window: of the first one the prefix token alone.
        """
        rows, owners = [], []
        for owner, request in enumerate(requests):
            (text,) = request.args
            tokens = self.tok_encode(text, add_special_tokens=False)
            windows = get_rolling_token_windows(tokens, self.prefix_token_id, self.limit.tokens, 1)
            done = 0
            for context, window in map(make_disjoint_window, windows):
                before = (self.prefix_token_id, *tokens[:done])[-self.limit.tokens :]
                rows.append(Scored(before, tuple(context), tuple(window)))
                owners.append(owner)
                done += len(window)
        sums = [0.0] * len(requests)
        for owner, (value, _) in zip(owners, self._scores(rows), strict=True):
            sums[owner] += value
        return sums

    @torch.inference_mode()
    def _scores(self, rows: Sequence[Scored]) -> list[tuple[float, bool]]:
        same: dict[tuple[Tokens, Tokens], list[int]] = {}
        for place, row in enumerate(rows):
            same.setdefault(row.given, []).append(place)
        passes = list(same)
        weights = self._routed([routed for routed, _ in passes])
        found: dict[int, tuple[float, bool]] = {}
        progress = Progress(len(rows), "likelihoods")
        for positions, batch in self._padded([tokens for _, tokens in passes]):
            owners = [same[passes[position]] for position in positions]
            keep = max(len(rows[place].tokens) for places in owners for place in places)
            options = {"logits_to_keep": keep} if self._short else {}
            mixed = _stacked(weights, [passes[position][0] for position in positions])
            logits = self.model(**batch, weights=mixed, **options).logits
            for places, row in zip(owners, logits, strict=True):
                found |= {place: _likelihood(row, rows[place].tokens) for place in places}
            progress.update(len(found))
        return [found[place] for place in range(len(rows))]

    # -- texts

    @torch.inference_mode()
    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
        """What the model writes after each context, greedily, up to a text of `until` or `max_gen_toks` tokens."""
        groups: dict[str, list[int]] = {}
        for place, request in enumerate(requests):
            groups.setdefault(json.dumps(request.args[1], sort_keys=True), []).append(place)
        found: dict[int, str] = {}
        progress = Progress(len(requests), "answers")
        for places in groups.values():
            ending = _ending(requests[places[0]].args[1])
            contexts = [tuple(self.tok_encode(requests[place].args[0])) for place in places]
            for place, tokens in zip(places, contexts, strict=True):
                self._check(tokens, f"lm-eval: {requests[place].args[0]!r:.40}", ending.max_new_tokens)
            for positions, batch in self._padded(contexts):
                texts = self._texts(batch, ending, len(positions))
                found |= {places[place]: text for place, text in zip(positions, texts, strict=True)}
                progress.update(len(found))
        return [found[place] for place in range(len(requests))]

    def _texts(self, batch: Any, ending: Ending, rows: int) -> list[str]:
        """The answers to a batch of contexts, with the spaces around them: a task's filters take these away, or not."""
        view: Any = _Written(ending)
        waiting = [Waiting("", view, Encoded({})) for _ in range(rows)]
        answers, _ = self.model.answer_batch(batch, self.tokenizer, waiting, None)
        tokens = [answer.tokens[:-1] if answer.finish == "end" else answer.tokens for answer in answers]
        return [_cut(self.tokenizer.decode(own, skip_special_tokens=True), ending.stop) for own in tokens]

    # -- both

    def _routed(self, contexts: Sequence[Tokens]) -> Mapping[Tokens, torch.Tensor]:
        """The weights (T,) that each context is routed to; nothing for a model without a router."""
        if self.model.router is None:
            return {}
        different = list(dict.fromkeys(contexts))
        return {
            different[position]: weights
            for positions, batch in self._padded(different)
            for position, weights in zip(positions, self.model.route(**batch), strict=True)
        }

    def _padded(self, inputs: Sequence[Tokens]) -> Iterator[tuple[list[int], Any]]:
        """Batches of near lengths, padded on the left, with the places of their inputs."""
        examples = [Encoded({"input_ids": [*ids], "attention_mask": [1] * len(ids)}) for ids in inputs]
        for positions in batches(examples, self.batch_size):
            batch = collate([examples[position] for position in positions], self.tokenizer, "left")
            yield positions, moved(batch, self.model.device)

    def _check(self, tokens: Tokens, what: str, new: int = 0) -> None:
        limit = longest(None, self.model.config, self.tokenizer, new=new) if new else self.limit
        check_length(Encoded({"input_ids": [*tokens]}), replace(limit, remedy=REMEDY), what)


def _stacked(weights: Mapping[Tokens, torch.Tensor], contexts: Sequence[Tokens]) -> torch.Tensor | None:
    return torch.stack([weights[context] for context in contexts]) if weights else None


def _likelihood(logits: torch.Tensor, tokens: Tokens) -> tuple[float, bool]:
    """The log-likelihood of tokens that the last of these logits (length, vocabulary) are for, and whether each is the
    likeliest."""
    own = logits[-len(tokens) :].float().log_softmax(-1)
    wanted = torch.tensor(tokens, device=own.device)
    return own.gather(-1, wanted[:, None]).sum().item(), own.argmax(-1).equal(wanted)


def _ending(told: Mapping[str, Any]) -> Ending:
    """When answers end, by what a task says of them. Raises UserError for what is not written greedily."""
    said: Any = normalize_gen_kwargs(dict(told), MAX_NEW_TOKENS)
    refused = sorted(said.keys() - WRITING) + (["do_sample"] if said.get("do_sample") else [])
    if refused:
        raise UserError(f"lm-eval: generation_kwargs ask for {refused[0]}; answers are written greedily: remove it")
    return Ending(max_new_tokens=said["max_gen_toks"], stop=tuple(text for text in said.get("until", ()) if text))


def _cut(text: str, stop: Sequence[str]) -> str:
    """What stands before the first text that ends an answer, spaces around it included."""
    ends = [place for end in stop if (place := text.find(end)) >= 0]
    return text[: min(ends, default=len(text))]
