"""How a request is answered: whole, or as a stream."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from twin_merging.serving.http.asking import Asked
from twin_merging.serving.http.forms import Chats, Completions, routing_of
from twin_merging.serving.http.stream import EventStream
from twin_merging.serving.http.waiting import Desk, Waiting
from twin_merging.serving.rows import Result

Form = Completions | Chats


class Endpoints:
    """desk: where the rows of a request are handed in."""

    def __init__(self, desk: Desk):
        self._desk, self._metrics = desk, desk.metrics

    async def answer(self, request: Request, asked: Asked, form: Form) -> Response:
        head = {
            "id": f"{form.prefix}-{request.state.id}",
            "object": form.chunk if asked.streams else form.whole,
            "created": int(time.time()),
            "model": asked.model,
        }
        if asked.streams:
            waiting = self._desk.waiting(asked.asks, Result, asked.param, asked.each)
            return EventStream(self._chunks(waiting, asked, form, head), self._ended(waiting), self._desk.seconds)
        results = await self._desk.results(request, asked.asks, Result, asked.param, asked.each)
        shown = _best(results, asked)
        choices = [form.choice(index, result, asked) for index, result in enumerate(shown)]
        return JSONResponse({**head, "choices": choices, "usage": self._usage(asked, results), **_one(asked, shown)})

    async def _chunks(
        self, waiting: Waiting[Result], asked: Asked, form: Form, head: dict[str, Any]
    ) -> AsyncIterator[Any]:
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

    def _ended(self, waiting: Waiting[Result]) -> Any:
        def cancel() -> None:
            if waiting.left:
                self._metrics.cancelled.inc()
            waiting.cancel()

        return cancel

    def _usage(self, asked: Asked, results: Sequence[Result]) -> dict[str, int]:
        return self._desk.usage(asked.asks, sum(result.count for result in results))


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
