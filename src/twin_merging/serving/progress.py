"""One answer while it is written, and what its client is told of it."""

from __future__ import annotations

import time
from collections.abc import Sequence

from twin_merging.serving.rows import Ask, Failure, Piece, Result, Routing, Row, Score
from twin_merging.serving.sampling import Likely
from twin_merging.serving.text import Text
from twin_merging.tasks.writing import Words


class Progress:
    """What is written of one row so far. prompt_scores: what the model says of its prompt's tokens but the first."""

    def __init__(self, row: Row[Ask], words: Words, routing: Routing, prompt_scores: Sequence[Likely]):
        ask = row.ask
        self.row, self.routing, self.random = row, routing, ask.randomness(row.index)
        follows = ask.streams or ask.scores is not None
        self.text = Text(words, ask.max_tokens, ask.stop, follows)
        self.first: float | None = None  # when its first token came
        self._scores: list[Likely] = []
        self._told = 0
        self._prompt = self._of_prompt(words, prompt_scores) if ask.scores_prompt else ()

    @property
    def ask(self) -> Ask:
        return self.row.ask

    @property
    def goes_on(self) -> bool:
        return self.text.finish is None and not self.row.is_cancelled

    def add(self, token: int, score: Likely | None, now: float) -> None:
        self.first = self.first or now
        self.text.add(token)
        if score is not None:
            self._scores.append(score)

    def tell(self) -> None:
        """Tell the client what is new, if it wants to know: a piece of text, and at the end the whole answer."""
        if self.row.is_cancelled:
            return
        if self.text.finish is None:
            if self.ask.streams and (text := self.text.ready()):
                self.row.listener(Piece(text, self.routing, self._new_scores()))
            return
        rest = Piece(self.text.rest(), self.routing, self._new_scores())
        now = time.monotonic()
        seconds = ((self.first or now) - self.row.since, now - self.row.since)
        whole, scores, count = self.text.whole(), self._scores_from(0), len(self.text.tokens)
        result = Result(whole, self.text.finish, self.routing, count, rest, scores, self._prompt, seconds)
        self.row.listener(result)

    def fail(self, error: str) -> None:
        if not self.row.is_cancelled:
            self.row.listener(Failure(error))

    def _new_scores(self) -> tuple[Score, ...]:
        new = self._scores_from(self._told)
        self._told += len(new)
        return new

    def _scores_from(self, first: int) -> tuple[Score, ...]:
        """Those of every token that was written, with the one that ended the text."""
        count = self.ask.scores
        written = zip(self.text.tokens, self._scores, self.text.offsets, strict=False)
        return tuple(Score(token, p, likeliest[:count], at) for token, (p, likeliest), at in list(written)[first:])

    def _of_prompt(self, words: Words, told: Sequence[Likely]) -> tuple[Score, ...]:
        text = Text(words, len(self.ask.prompt) + 1, follows=True)
        for token in self.ask.prompt:
            text.add(token)
        none: Likely = (float("nan"), ())
        return tuple(
            Score(token, None if number == 0 else logprob, likeliest[: self.ask.scores], text.offsets[number])
            for number, (token, (logprob, likeliest)) in enumerate(zip(self.ask.prompt, [none, *told], strict=True))
        )
