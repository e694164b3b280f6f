"""What stands before every request: its id, the key, and the count of what came of it."""

from __future__ import annotations

import hmac
import logging
import uuid
from typing import Any

from starlette.datastructures import Headers, MutableHeaders

from twin_merging.serving.http.errors import RequestError
from twin_merging.serving.http.metrics import Metrics

log = logging.getLogger(__name__)

OPEN = ("/", "/health")  # paths that need no key: they tell nothing of the model but that it is there


class Guard:
    """An ASGI application around another. key: what clients have to show, if anything; paths: those that are counted
    by their names."""

    def __init__(self, app: Any, metrics: Metrics, key: str | None, paths: frozenset[str]):
        self._app, self._metrics, self._key, self._paths = app, metrics, key, paths

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        number = uuid.uuid4().hex
        scope.setdefault("state", {})["id"] = number
        path = scope["path"] if scope["path"] in self._paths else "other"
        has_begun = False

        async def counted(message: Any) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                MutableHeaders(scope=message)["x-request-id"] = number
                self._metrics.requests.labels(path, str(message["status"])).inc()
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, receive, counted)
        except RequestError as error:
            await error.response()(scope, receive, counted)
        except Exception:
            log.exception("request %s failed", number)
            if not has_begun:
                fault = RequestError(f"the server failed; its log has more at {number}", status=500, code="internal")
                await fault.response()(scope, receive, counted)

    def _check(self, scope: Any) -> None:
        if self._key is None or scope["path"] in OPEN:
            return
        kind, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self._key.encode()):
            raise RequestError(
                "the key is missing or wrong; send the header Authorization: Bearer KEY",
                status=401,
                code="invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )
