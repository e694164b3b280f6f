"""Answers in OpenAI's two forms: of completions, and of chats."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from twin_merging.serving.http.asking import Asked
from twin_merging.serving.rows import Piece, Result, Routing, Score


class Shown:
    """Tokens as text, by a tokenizer of its own."""

    def __init__(self, tokenizer: Any):
        self._tokenizer = copy.deepcopy(tokenizer)
        self.token = lru_cache(maxsize=65536)(self._token)

    def _token(self, token: int) -> str:
        return str(self._tokenizer.decode([token]))

    def text(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True))


def routing_of(routing: Routing) -> dict[str, Any]:
    return {"task": routing.task, "weights": dict(routing.weights)}


class Completions:
    """choices, chunks: what stands in `choices` of a whole answer, and of a streamed one."""

    prefix, whole, chunk = "cmpl", "text_completion", "text_completion"

    def __init__(self, shown: Shown):
        self._shown = shown

    def choice(self, index: int, result: Result, asked: Asked) -> dict[str, Any]:
        prompt = self._prompt(index // asked.shown, asked)
        scores = [*result.prompt_scores, *_shifted(result.scores, len(prompt))]
        logprobs = self._logprobs(scores) if asked.has_scores else None
        return _choice(index, {"text": prompt + result.text}, logprobs, result.finish, result.routing)

    def begin(self, index: int, asked: Asked) -> str:
        """What stands before the first piece of an answer."""
        return self._prompt(index // asked.shown, asked)

    def first(self, index: int, routing: Routing) -> dict[str, Any] | None:
        return None

    def piece(self, index: int, text: str, piece: Piece, finish: str | None, has_scores: bool) -> dict[str, Any]:
        logprobs = self._logprobs(piece.scores) if has_scores else None
        return _choice(index, {"text": text}, logprobs, finish, piece.routing)

    def _prompt(self, place: int, asked: Asked) -> str:
        if not asked.echoes:
            return ""
        prompt = asked.prompts[place]
        return self._shown.text(prompt.tokens) if prompt.text is None else prompt.text

    def _logprobs(self, scores: Sequence[Score]) -> dict[str, Any]:
        return {
            "tokens": [self._shown.token(score.token) for score in scores],
            "token_logprobs": [score.logprob for score in scores],
            "top_logprobs": [self._likeliest(score) for score in scores],
            "text_offset": [score.offset for score in scores],
        }

    def _likeliest(self, score: Score) -> dict[str, float] | None:
        """By their texts: of several tokens with the same, the likeliest."""
        if score.logprob is None:
            return None
        found: dict[str, float] = {}
        for token, logprob in score.likeliest:
            found.setdefault(self._shown.token(token), logprob)
        return found


class Chats:
    prefix, whole, chunk = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def __init__(self, shown: Shown):
        self._shown = shown

    def choice(self, index: int, result: Result, asked: Asked) -> dict[str, Any]:
        message = {"role": "assistant", "content": result.text, "refusal": None}
        logprobs = self._logprobs(result.scores) if asked.has_scores else None
        return _choice(index, {"message": message}, logprobs, result.finish, result.routing)

    def begin(self, index: int, asked: Asked) -> str:
        return ""

    def first(self, index: int, routing: Routing) -> dict[str, Any] | None:
        return _choice(index, {"delta": {"role": "assistant", "content": ""}}, None, None, routing)

    def piece(self, index: int, text: str, piece: Piece, finish: str | None, has_scores: bool) -> dict[str, Any]:
        delta = {"content": text} if text or finish is None else {}
        logprobs = self._logprobs(piece.scores) if has_scores else None
        return _choice(index, {"delta": delta}, logprobs, finish, piece.routing)

    def _logprobs(self, scores: Sequence[Score]) -> dict[str, Any]:
        return {"content": [{**self._told(s.token, s.logprob), "top_logprobs": self._top(s)} for s in scores]}

    def _top(self, score: Score) -> list[dict[str, Any]]:
        return [self._told(token, logprob) for token, logprob in score.likeliest]

    def _told(self, token: int, logprob: float | None) -> dict[str, Any]:
        text = self._shown.token(token)
        return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


def _choice(
    index: int, content: Mapping[str, Any], logprobs: Any, finish: str | None, routing: Routing
) -> dict[str, Any]:
    """One of an answer's `choices`. content: what was written, by the name that it has in this form."""
    return {
        "index": index,
        **content,
        "logprobs": logprobs,
        "finish_reason": finish,
        "routing": routing_of(routing),
    }


def _shifted(scores: Sequence[Score], by: int) -> list[Score]:
    return [Score(score.token, score.logprob, score.likeliest, score.offset + by) for score in scores]
