"""The rows that are being answered: admitted, continued by a token at a time, and taken out when they are done."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from twin_merging.routing.verdicts import Routed
from twin_merging.serving.joining import JoinedReading
from twin_merging.serving.progress import Progress
from twin_merging.serving.prompts import left_padded, read_prompts
from twin_merging.serving.routes import Mixtures, mixtures
from twin_merging.serving.rows import Ask, Row
from twin_merging.serving.sampling import choose, likelihoods
from twin_merging.tasks.writing import Words


class Batch:
    """Rows that one model continues together, each under its own mixture. One thread alone may use it. observe: called
    after each pass over one token a row, with the number of these rows."""

    def __init__(self, model: Any, tokenizer: Any, observe: Callable[[int], None] | None = None):
        self.rows: list[Progress] = []
        self._model, self._words = model, Words(model.model, tokenizer)
        self._reading: JoinedReading | None = None
        self._mixtures: Mixtures | None = None
        self._observe = observe or (lambda rows: None)

    def admit(self, rows: Sequence[Row[Ask]]) -> list[Progress]:
        """Read the prompts of new rows, each once whatever the number of answers to it, and write their first tokens.
        Gives them as they are then."""
        asks = {ask: place for place, ask in enumerate(dict.fromkeys(row.ask for row in rows))}
        reading, own, last, scores = self._read(list(asks))
        places = [asks[row.ask] for row in rows]
        if len(places) > len(asks):
            reading.keep(places)
        own = own.kept(places)
        new = [
            Progress(row, self._words, own.routing(self._model, number), scores[place])
            for number, (row, place) in enumerate(zip(rows, places, strict=True))
        ]
        self._choose(new, last[places])
        if self._reading is None or self._mixtures is None:
            self._reading, self._mixtures = reading, own
        else:
            self._reading.join(reading)
            self._mixtures = self._mixtures.joined(own)
        self.rows += new
        return new

    def step(self) -> None:
        """Continue every row by one token."""
        if self._reading is None or self._mixtures is None:
            return
        given = torch.tensor([[row.text.tokens[-1]] for row in self.rows], device=self._model.device)
        with self._mixtures.holding(self._model):
            logits = self._reading.read(given, torch.ones_like(given))[:, -1]
        self._choose(self.rows, logits)
        self._observe(len(self.rows))

    def retire(self) -> list[Progress]:
        """Take out the rows that are done, or that nobody waits for any more."""
        left = [place for place, row in enumerate(self.rows) if row.goes_on]
        if len(left) == len(self.rows):
            return []
        done = [row for row in self.rows if not row.goes_on]
        self.rows = [self.rows[place] for place in left]
        if not left:
            self._reading = self._mixtures = None
        elif self._reading is not None and self._mixtures is not None:
            self._reading.keep(left)
            self._mixtures = self._mixtures.kept(left)
        return done

    def clear(self) -> list[Progress]:
        """Take out all rows, and forget what was read of them."""
        gone, self.rows, self._reading, self._mixtures = self.rows, [], None, None
        return gone

    def _read(self, asks: Sequence[Ask]) -> tuple[JoinedReading, Mixtures, torch.Tensor, list[Any]]:
        ids, mask = left_padded([ask.prompt for ask in asks], self._model.device)

        def routed(rows: list[int]) -> Routed:
            first = int(mask[rows].sum(-1).amax())
            found: Routed = self._model.routed_of(ids[rows, -first:], mask[rows, -first:], None)
            return found

        own = mixtures(self._model, [ask.route for ask in asks], routed)
        reading = JoinedReading(self._model.model)
        with own.holding(self._model):
            last, scores = read_prompts(reading, ids, mask, asks, self._model.config.get_text_config().vocab_size)
        return reading, own, last, scores

    def _choose(self, rows: Sequence[Progress], logits: torch.Tensor) -> None:
        """The next token of each row, by logits (rows, vocabulary)."""
        writing = [place for place, row in enumerate(rows) if row.text.finish is None]
        if not writing:
            return
        chosen = choose(logits[writing], [rows[place].ask for place in writing], [rows[p].random for p in writing])
        scored = [number for number, place in enumerate(writing) if rows[place].ask.scores is not None]
        most = max((rows[writing[number]].ask.scores or 0 for number in scored), default=0)
        told = likelihoods(logits[writing][scored], [chosen[number] for number in scored], most) if scored else []
        by_place = dict(zip(scored, told, strict=True))
        now = time.monotonic()
        for number, place in enumerate(writing):
            rows[place].add(chosen[number], by_place.get(number), now)
