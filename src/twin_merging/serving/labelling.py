"""Texts that a merged classifier reads once each: their labels, each under its own mixture, or their embeddings."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional

from twin_merging.io.device import moved
from twin_merging.routing.verdicts import Routed
from twin_merging.serving.progress import Progress
from twin_merging.serving.routes import mixtures
from twin_merging.serving.rows import Question, Read, Routing, Row
from twin_merging.tasks.rows import collate


class Labelling:
    """Answers each row as it is admitted. One thread alone may use it. observe: called with the rows of each pass."""

    def __init__(self, model: Any, tokenizer: Any, observe: Callable[[int], None]):
        self.rows: list[Progress] = []  # none stays
        self._model, self._tokenizer, self._observe = model, tokenizer, observe

    def admit(self, rows: Sequence[Row[Question]]) -> list[Progress]:
        for wants, answer in (("label", self._labels), ("embedding", self._embeddings)):
            own = [row for row in rows if row.ask.wants == wants]
            if not own:
                continue
            told = answer([row.ask for row in own])
            self._observe(len(own))
            now = time.monotonic()
            for row, (values, is_value, routing) in zip(own, told, strict=True):
                if not row.is_cancelled:
                    row.listener(Read(values, is_value, routing, now - row.since))
        return []

    def step(self) -> None:
        """Nothing goes on."""

    def retire(self) -> list[Progress]:
        return []

    def clear(self) -> list[Progress]:
        return []

    def _labels(self, asks: Sequence[Question]) -> list[tuple[tuple[float, ...], bool, Routing]]:
        model, batch = self._model, self._batch(asks)

        def routed(rows: list[int]) -> Routed:
            part = {name: tensor[rows] for name, tensor in batch.items()}
            ids, mask = part.pop("input_ids"), part.pop("attention_mask")
            found: Routed = model.routed_of(ids, mask, None, texts=[asks[row].texts for row in rows], **part)
            return found

        own = mixtures(model, [ask.route for ask in asks], routed)
        tasks = own.names(model)
        logits = model(**batch, weights=own.weights, tasks=tasks).logits.float()
        return [
            (*_answer(logits[row, : model.labels[task]]), own.routing(model, row)) for row, task in enumerate(tasks)
        ]

    def _embeddings(self, asks: Sequence[Question]) -> list[tuple[tuple[float, ...], bool, None]]:
        """Of the shared body alone: the mean of all tokens' last hidden states, or a causal body's at the last token,
        as a vector of length 1."""
        batch = self._batch(asks)
        found = self._model.states(batch.pop("attention_mask"), **batch)
        return [(tuple(row), False, None) for row in functional.normalize(found, dim=-1).tolist()]

    def _batch(self, asks: Sequence[Question]) -> dict[str, torch.Tensor]:
        return dict(moved(collate([ask.example for ask in asks], self._tokenizer), self._model.device))


def _answer(logits: torch.Tensor) -> tuple[tuple[float, ...], bool]:
    """From the logits (labels,) of one row: probabilities, or with one label the value of a regression."""
    is_value = len(logits) == 1
    return tuple((logits if is_value else logits.softmax(-1)).tolist()), is_value
