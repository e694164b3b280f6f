"""The answers of one request on their way from the engine's thread to the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from twin_merging.serving.engine import ClosedError, Engine, FullError
from twin_merging.serving.http.asking import Asked
from twin_merging.serving.http.errors import RequestError, engine_failed
from twin_merging.serving.rows import Event, Failure, Piece, Result, Row


class Waiting:
    """Submits the rows of a request when it is made, and gives what the engine tells of them. Raises RequestError where
    there is no room. `cancel` frees the rows that are not done; it may be called at any time."""

    def __init__(self, engine: Engine, asked: Asked):
        self.left = asked.rows  # those that are not done
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        self._rows = [
            Row(ask, self._listener(place * asked.each + index), index)
            for place, ask in enumerate(asked.asks)
            for index in range(asked.each)
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

    async def events(self) -> AsyncIterator[tuple[int, Piece | Result]]:
        """Each row's events, by its place, until all are done. Raises RequestError when the engine fails."""
        while self.left:
            place, event = await self._events.get()
            if isinstance(event, Failure):
                raise engine_failed(event.error)
            self.left -= isinstance(event, Result)
            yield place, event

    async def results(self) -> list[Result]:
        found: dict[int, Result] = {}
        async for place, event in self.events():
            if isinstance(event, Result):
                found[place] = event
        return [found[place] for place in range(len(self._rows))]

    def _listener(self, place: int) -> Any:
        def hear(event: Event) -> None:
            try:
                self._loop.call_soon_threadsafe(self._events.put_nowait, (place, event))
            except RuntimeError:  # the loop has ended, and with it all who waited
                return

        return hear


async def unless_gone(request: Any, waiting: Waiting, seconds: float) -> list[Result] | None:
    """All answers to a request; None when its client has gone. Raises TimeoutError after so many seconds."""
    results = asyncio.ensure_future(waiting.results())
    gone = asyncio.ensure_future(client_gone(request.receive))
    try:
        await asyncio.wait({results, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if results.done():
            return results.result()
        if gone.done():
            return None
        raise TimeoutError
    finally:
        waiting.cancel()
        gone.cancel()
        results.cancel()


async def client_gone(receive: Any) -> None:
    """Returns when the client has closed its connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
