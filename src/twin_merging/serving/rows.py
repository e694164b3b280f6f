"""What is asked of the engine, a row for each answer, and what it tells of that answer."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from twin_merging.serving.routes import Route, Routing
from twin_merging.tasks.task import Encoded

Finish = Literal["stop", "length"]


@dataclass(frozen=True)
class Ask:
    """One prompt and how it is to be continued.

    prompt: its tokens. max_tokens: of the answer (0: none, to score the prompt alone). stop: texts that end an answer.
    temperature: 0 takes the likeliest token. top_p: of the likeliest tokens, those that together have this probability.
    seed: of the sampling; None for one that nobody chose. scores: how many of the likeliest tokens are told beside each
    token of the answer (None: no likelihoods). scores_prompt: the same for the prompt's tokens. streams: whether the
    text is wanted piece by piece.
    """

    prompt: tuple[int, ...]
    route: Route
    max_tokens: int = 16
    stop: tuple[str, ...] = ()
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    scores: int | None = None
    scores_prompt: bool = False
    streams: bool = False

    def randomness(self, index: int) -> random.Random:
        """The random numbers of one answer: those of a seed are the same whatever else is in the batch. index: which of
        the answers to this prompt it is."""
        return random.Random() if self.seed is None else random.Random(f"{self.seed} {index}")


@dataclass(frozen=True)
class Question:
    """A text, or a pair of texts, that a classifier reads once. example: as it is tokenised; texts: as they were given;
    wants: the label, or the mean of the shared body's last hidden states."""

    example: Encoded
    texts: tuple[str, ...]
    route: Route
    wants: Literal["label", "embedding"] = "label"

    @property
    def prompt(self) -> Sequence[int]:
        """Its tokens."""
        found: Sequence[int] = self.example.features["input_ids"]
        return found


@dataclass(frozen=True)
class Score:
    """What the model says of one token: log p (None for a prompt's first token), the likeliest tokens in its place with
    theirs, and where its text begins in that of the prompt or of the answer."""

    token: int
    logprob: float | None
    likeliest: tuple[tuple[int, float], ...]
    offset: int


@dataclass(frozen=True)
class Piece:
    """A part of an answer, as it is written: text, and the scores of the tokens that are new since the last piece."""

    text: str
    routing: Routing
    scores: tuple[Score, ...] = ()


@dataclass(frozen=True)
class Result:
    """A whole answer. rest: the part of its text that no piece had, with the scores that no piece had. count: tokens
    that were written, with the one that ended it. seconds: until the first token, and until the last."""

    text: str
    finish: Finish
    routing: Routing
    count: int
    rest: Piece
    scores: tuple[Score, ...] = ()
    prompt_scores: tuple[Score, ...] = ()
    seconds: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Read:
    """What a classifier says of a text. values: the probability of each label; the one value of a regression; or the
    embedding. is_value: whether it is the second. seconds: since it came. routing: None of an embedding."""

    values: tuple[float, ...]
    is_value: bool
    routing: Routing | None
    seconds: float


@dataclass(frozen=True)
class Failure:
    """The engine could not answer: what went wrong, for its log."""

    error: str


Event = Piece | Result | Read | Failure
Final = TypeVar("Final", Result, Read)  # the last that is told of a row that did not fail


AskOf = TypeVar("AskOf", Ask, Question)


@dataclass(eq=False)
class Row(Generic[AskOf]):
    """One answer that is wanted of `ask`: the engine tells `listener` of it, from its own thread. index: which of the
    answers to that prompt it is."""

    ask: AskOf
    listener: Callable[[Event], None]
    index: int = 0
    since: float = field(default_factory=time.monotonic)
    _gone: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        self._gone.set()

    @property
    def is_cancelled(self) -> bool:
        return self._gone.is_set()
