"""How a request is answered: whole, or as a stream."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from twin_merging.serving.engine import Engine
from twin_merging.serving.http.asking import Asked
from twin_merging.serving.http.errors import RequestError, timed_out
from twin_merging.serving.http.forms import Chats, Completions, routing_of
from twin_merging.serving.http.metrics import Metrics
from twin_merging.serving.http.stream import EventStream
from twin_merging.serving.http.waiting import Waiting, unless_gone
from twin_merging.serving.rows import Result

Form = Completions | Chats


class Endpoints:
    """seconds: within which a request has to be answered."""

    def __init__(self, engine: Engine, metrics: Metrics, seconds: float):
        self._engine, self._metrics, self._seconds = engine, metrics, seconds

    async def answer(self, request: Request, asked: Asked, form: Form) -> Response:
        head = {
            "id": f"{form.prefix}-{request.state.id}",
            "object": form.chunk if asked.streams else form.whole,
            "created": int(time.time()),
            "model": asked.model,
        }
        waiting = Waiting(self._engine, asked)
        if asked.streams:
            return EventStream(self._chunks(waiting, asked, form, head), self._ended(waiting), self._seconds)
        try:
            results = await unless_gone(request, waiting, self._seconds)
        except TimeoutError:
            self._metrics.cancelled.inc()
            raise timed_out(self._seconds) from None
        if results is None:
            self._metrics.cancelled.inc()
            raise RequestError("the client went away", status=499)
        for result in results:
            self._metrics.answered(result)
        shown = _best(results, asked)
        choices = [form.choice(index, result, asked) for index, result in enumerate(shown)]
        return JSONResponse({**head, "choices": choices, "usage": self._usage(asked, results), **_one(asked, shown)})

    async def _chunks(self, waiting: Waiting, asked: Asked, form: Form, head: dict[str, Any]) -> AsyncIterator[Any]:
        """A chunk for each piece of an answer; where usage is wanted, another at the end. The routing of an answer is
        in its first chunk and in its last."""
        usage = {"usage": None} if asked.has_usage else {}
        results: list[Result] = []
        begun: set[int] = set()
        async for index, told in waiting.events():
            piece = told.rest if isinstance(told, Result) else told
            text, is_first = piece.text, index not in begun
            if is_first:
                begun.add(index)
                if (first := form.first(index, piece.routing)) is not None:
                    yield {**head, "choices": [first], **usage}
                text = form.begin(index, asked) + text
            finish = told.finish if isinstance(told, Result) else None
            choice = form.piece(index, text, piece, finish, asked.has_scores)
            if not is_first and finish is None:
                choice.pop("routing")
            yield {**head, "choices": [choice], **usage}
            if isinstance(told, Result):
                results.append(told)
                self._metrics.answered(told)
        if asked.has_usage:
            yield {**head, "choices": [], "usage": self._usage(asked, results)}
        else:
            self._usage(asked, results)

    def _ended(self, waiting: Waiting) -> Any:
        def cancel() -> None:
            if waiting.left:
                self._metrics.cancelled.inc()
            waiting.cancel()

        return cancel

    def _usage(self, asked: Asked, results: Sequence[Result]) -> dict[str, int]:
        read = sum(len(ask.prompt) for ask in asked.asks)
        written = sum(result.count for result in results)
        self._metrics.prompt_tokens.inc(read)
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def _best(results: Sequence[Result], asked: Asked) -> list[Result]:
    """Of the answers to each prompt those that are given: the ones of the largest mean log p of a token."""
    if asked.each == asked.shown:
        return list(results)
    found: list[Result] = []
    for place in range(len(asked.asks)):
        own = results[place * asked.each : (place + 1) * asked.each]
        found += sorted(own, key=_mean, reverse=True)[: asked.shown]
    return found


def _mean(result: Result) -> float:
    told = [score.logprob for score in result.scores if score.logprob is not None]
    return sum(told) / len(told) if told else 0.0


def _one(asked: Asked, results: Sequence[Result]) -> dict[str, Any]:
    """The routing of a request with one prompt, beside that of each choice."""
    return {"routing": routing_of(results[0].routing)} if len(asked.asks) == 1 else {}
