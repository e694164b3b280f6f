"""Texts as a request to a classifier gives them, as what the model reads."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from twin_merging.serving.http.errors import RequestError
from twin_merging.serving.http.tokenizing import MOST, OwnTokenizer, check_characters
from twin_merging.tasks.lengths import encoded_text
from twin_merging.tasks.task import Encoded, Longest

KINDS = 'a text, {"text": ..., "text_pair": ...} for a pair, or a list of these'
PAIR = {"text", "text_pair"}


class Texts(OwnTokenizer):
    """Reads texts. limit: tokens that the model takes; what is longer is cut."""

    def __init__(self, tokenizer: Any, limit: Longest):
        super().__init__(tokenizer)
        self._limit = limit

    def submit(self, given: Any) -> Future[list[tuple[tuple[str, ...], Encoded]]]:
        """Each input of a request, as it was given and as it is tokenised."""
        return self._thread.submit(self._all, given)

    def _all(self, given: Any) -> list[tuple[tuple[str, ...], Encoded]]:
        if not isinstance(given, list):
            return [self._one(given, "input")]
        if not given or len(given) > MOST:
            raise RequestError(f"input: {len(given)} texts; give 1 to {MOST} in one request", "input")
        return [self._one(one, f"input.{place}") for place, one in enumerate(given)]

    def _one(self, given: Any, param: str) -> tuple[tuple[str, ...], Encoded]:
        texts = _texts(given, param)
        for text in texts:
            check_characters(text, param)
        return texts, encoded_text(self._tokenizer, texts, self._limit, param, whole=False)


def _texts(given: Any, param: str) -> tuple[str, ...]:
    if isinstance(given, str):
        return (given,)
    if isinstance(given, dict) and isinstance(given.get("text"), str) and set(given) <= PAIR:
        pair = given.get("text_pair")
        if pair is None:
            return (given["text"],)
        if isinstance(pair, str):
            return given["text"], pair
    raise RequestError(f"{param}: give {KINDS}", param)
