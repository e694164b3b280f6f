"""The answers of one request on their way from the engine's thread to the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic

from twin_merging.serving.engine import ClosedError, Engine, FullError
from twin_merging.serving.http.errors import RequestError, engine_failed, timed_out
from twin_merging.serving.http.metrics import Metrics
from twin_merging.serving.rows import Event, Failure, Final, Piece, Row


class Waiting(Generic[Final]):
    """Submits the rows of a request when it is made, and gives what the engine tells of them. Raises RequestError where
    there is no room. `cancel` frees the rows that are not done; it may be called at any time."""

    def __init__(self, engine: Engine, asks: Sequence[Any], kind: type[Final], each: int = 1):
        self._kind: type[Final] = kind
        self.left = len(asks) * each  # those that are not done
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        self._rows = [
            Row(ask, self._listener(place * each + index), index)
            for place, ask in enumerate(asks)
            for index in range(each)
        ]
        try:
            engine.submit(self._rows)
        except FullError as error:
            headers = {"retry-after": str(error.seconds)}
            raise RequestError(str(error), status=429, code="queue_full", headers=headers) from None
        except ClosedError as error:
            raise RequestError(str(error), status=503, code="server_ends") from None

    def cancel(self) -> None:
        for row in self._rows:
            row.cancel()

    async def events(self) -> AsyncIterator[tuple[int, Piece | Final]]:
        """Each row's events, by its place, until all are done. Raises RequestError when the engine fails."""
        while self.left:
            place, event = await self._events.get()
            if isinstance(event, Failure):
                raise engine_failed(event.error)
            if isinstance(event, self._kind):
                self.left -= 1
                yield place, event
            elif isinstance(event, Piece):
                yield place, event

    async def results(self) -> list[Final]:
        found: dict[int, Final] = {}
        async for place, event in self.events():
            if isinstance(event, self._kind):
                found[place] = event
        return [found[place] for place in range(len(self._rows))]

    def _listener(self, place: int) -> Any:
        def hear(event: Event) -> None:
            try:
                self._loop.call_soon_threadsafe(self._events.put_nowait, (place, event))
            except RuntimeError:  # the loop has ended, and with it all who waited
                return

        return hear


@dataclass(frozen=True)
class Desk:
    """Where the rows of requests are handed in. seconds: within which a request has to be answered."""

    engine: Engine
    metrics: Metrics
    seconds: float = 600.0

    def waiting(self, asks: Sequence[Any], kind: type[Final], param: str, each: int = 1) -> Waiting[Final]:
        """Hand in a row for each of the answers to each ask. kind: of the answers; param: the field that says how
        many."""
        count, most = len(asks) * each, self.engine.sizes.queue
        if count > most:
            raise RequestError(
                f"{param}: {count} answers in one request, but at most {most} may wait; ask for fewer", param
            )
        return Waiting(self.engine, asks, kind, each)

    def usage(self, asks: Sequence[Any], written: int = 0) -> dict[str, int]:
        """What an answered request took: tokens that were read, and that were written. They are counted."""
        read = sum(len(ask.prompt) for ask in asks)
        self.metrics.prompt_tokens.inc(read)
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}

    async def results(
        self, request: Any, asks: Sequence[Any], kind: type[Final], param: str, each: int = 1
    ) -> list[Final]:
        """Every answer, by ask. Raises RequestError where the client goes away, or waits too long."""
        waiting = self.waiting(asks, kind, param, each)
        results = asyncio.ensure_future(waiting.results())
        gone = asyncio.ensure_future(client_gone(request.receive))
        try:
            await asyncio.wait({results, gone}, timeout=self.seconds, return_when=asyncio.FIRST_COMPLETED)
            if results.done():
                found = results.result()
                for one in found:
                    self.metrics.answered(one)
                return found
            self.metrics.cancelled.inc()
            raise RequestError("the client went away", status=499) if gone.done() else timed_out(self.seconds)
        finally:
            waiting.cancel()
            gone.cancel()
            results.cancel()


async def client_gone(receive: Any) -> None:
    """Returns when the client has closed its connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
