"""A language model writes behind prompts: greedily, in batches, each row to its own end.

A base's generation_config.json changes nothing here but which tokens end a text: no sampling, no penalty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from twin_merging.tasks.reading import Holding, Reading, all_rows, padded

if TYPE_CHECKING:
    from twin_merging.tasks.endings import Ending

Finish = Literal["end", "stop", "length"]
SPARE = 8  # tokens that are looked at for a stop beyond as many as it has bytes: some tokens add no text


@dataclass(frozen=True)
class Written:
    """What was written behind a prompt: the text up to what ended it, without spaces around it; its tokens, up to and
    with what ended it; and what that was: a token that ends texts, a text of the task's `stop`, or the number of
    tokens."""

    text: str
    tokens: list[int]
    finish: Finish | None


class Writing:
    """What is written behind one prompt so far."""

    def __init__(self, ending: Ending, words: Words):
        self.tokens: list[int] = []
        self.finish: Finish | None = None
        self._ending, self._words = ending, words
        self._stops = words.single(ending.stop)
        self._window = SPARE + max((len(stop.encode()) for stop in ending.stop), default=0)

    def add(self, token: int) -> None:
        self.tokens.append(token)
        if token in self._words.ends:
            self.finish = "end"
        elif token in self._stops or self._has_stop():
            self.finish = "stop"
        elif len(self.tokens) >= self._ending.max_new_tokens:
            self.finish = "length"

    def _has_stop(self) -> bool:
        """Whether the text holds a stop. It is looked for in the last tokens; what is found there counts if the whole
        text has it, since a text's first and last characters may look otherwise in a part of it."""
        stops = self._ending.stop
        if not stops:
            return False
        last = self._words.text(self.tokens[-self._window :])
        if not any(stop in last for stop in stops):
            return False
        whole = self._words.text(self.tokens)
        return any(stop in whole for stop in stops)

    def written(self) -> Written:
        last = self.tokens[-1] if self.tokens else None
        is_told = last in self._words.ends or last in self._stops
        text = self._words.text(self.tokens[:-1] if is_told else self.tokens)
        return Written(self._ending.cut(text), self.tokens, self.finish)


class Words:
    """A tokenizer's way from tokens to text, and the tokens that end texts of a model."""

    def __init__(self, model: Any, tokenizer: Any):
        self.ends = end_tokens(model, tokenizer)
        self._tokenizer = tokenizer
        self._special = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))

    def text(self, tokens: Sequence[int]) -> str:
        """The text of tokens alone, without special ones. Where a tokenizer drops the space before a text's first word
        (sentencepiece), it drops it here too."""
        return self._tokenizer.decode(tokens, skip_special_tokens=True)

    def single(self, stops: Sequence[str]) -> set[int]:
        """The special tokens whose names stand among the stops: they are in no text."""
        return {self._special[stop] for stop in stops if stop in self._special}


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """The tokens that end a text: those that config.json, generation_config.json and the tokenizer name."""
    told = [
        getattr(model.config.get_text_config(), "eos_token_id", None),
        getattr(getattr(model, "generation_config", None), "eos_token_id", None),
        tokenizer.eos_token_id,
    ]
    each = [one for some in told for one in (some if isinstance(some, (list, tuple)) else [some])]
    return frozenset(one for one in each if isinstance(one, int))


@dataclass(frozen=True)
class Followed:
    """What a model says of tokens that were written before: `written` as it ends by them (finish None: not at the last
    of them), and for each how far its logit lies below the largest, as a share of that where it is more than 1."""

    written: Written
    gaps: list[float]


def write(
    model: Any, batch: Any, endings: Sequence[Ending], tokenizer: Any, holding: Holding = all_rows
) -> list[Written]:
    """Continue each prompt of a batch, padded on the left, by the likeliest token again and again, up to its own end.

    model: as for `Reading`. batch: `input_ids` and `attention_mask` (rows, length). holding: a context for the model's
    passes over these rows of the batch. A row that has ended is taken out of the batch.
    """
    import torch

    words, reading = Words(model, tokenizer), Reading(model)
    writings = [Writing(ending, words) for ending in endings]
    given, mask = batch["input_ids"], batch["attention_mask"]
    rows = list(range(len(endings)))
    with torch.no_grad():
        while rows:
            left = rows
            with holding(rows):
                while left == rows:
                    chosen = reading.read(given, mask)[:, -1].argmax(-1)
                    for row, token in zip(rows, chosen.tolist(), strict=True):
                        writings[row].add(token)
                    left = [row for row in rows if writings[row].finish is None]
                    given, mask = chosen[:, None], torch.ones_like(chosen[:, None])
            places = [place for place, row in enumerate(rows) if writings[row].finish is None]
            if places:
                reading.keep(places)
                given, mask = given[places], mask[places]
            rows = left
    return [writing.written() for writing in writings]


def follow(
    model: Any,
    batch: Any,
    tokens: Sequence[Sequence[int]],
    endings: Sequence[Ending],
    tokenizer: Any,
    holding: Holding = all_rows,
) -> list[Followed]:
    """Read tokens behind each prompt of a batch, padded on the left, all in one pass. Arguments as for `write`."""
    import torch

    words, reading = Words(model, tokenizer), Reading(model)
    ids, mask = padded(tokens, batch["input_ids"].device)
    both = torch.cat([batch["input_ids"], ids], dim=1), torch.cat([batch["attention_mask"], mask], dim=1)
    with torch.no_grad(), holding(range(len(tokens))):
        logits = reading.read(*both, places=ids.shape[1] + 1)[:, :-1]
        largest = logits.amax(-1)
        own = logits.gather(-1, ids[..., None])[..., 0]
        gaps = ((largest - own) / largest.abs().clamp(min=1)).tolist()
    found = []
    for row, ending in enumerate(endings):
        writing = Writing(ending, words)
        for token in tokens[row]:
            is_over = writing.finish is not None
            writing.add(token)
            if is_over:
                writing.finish = None
        found.append(Followed(writing.written(), gaps[row][: len(tokens[row])]))
    return found
