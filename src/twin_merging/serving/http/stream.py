"""Server-sent events: an answer is sent piece by piece."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.responses import Response

from twin_merging.serving.http.errors import RequestError, timed_out
from twin_merging.serving.http.waiting import client_gone

DONE = b"data: [DONE]\n\n"
SPARE = 5.0  # seconds that a client has beyond the time of its answer, to take what has been written


def event(content: Any) -> bytes:
    return b"data: " + json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


class EventStream(Response):
    """Sends chunks as they come. When the client goes away, or has not taken all after so many seconds, `cancel` is
    called, and the connection ends."""

    media_type = "text/event-stream"

    def __init__(self, chunks: AsyncIterator[Any], cancel: Callable[[], None], seconds: float):
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._chunks, self._cancel, self._seconds = chunks, cancel, seconds

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        writing = asyncio.ensure_future(self._write(send))
        gone = asyncio.ensure_future(client_gone(receive))
        try:
            # What has been told to a client that reads is over by then; one that does not read holds the writer back.
            await asyncio.wait({writing, gone}, timeout=self._seconds + SPARE, return_when=asyncio.FIRST_COMPLETED)
            if writing.done():
                writing.result()
        finally:
            self._cancel()
            gone.cancel()
            writing.cancel()
            await asyncio.gather(writing, gone, return_exceptions=True)

    async def _write(self, send: Any) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async with asyncio.timeout(self._seconds):
                async for chunk in self._chunks:
                    await send({"type": "http.response.body", "body": event(chunk), "more_body": True})
            last = DONE
        except RequestError as error:
            last = event(error.body)
        except TimeoutError:
            last = event(timed_out(self._seconds).body)
        await send({"type": "http.response.body", "body": last, "more_body": False})
