"""The paths of the server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException

from twin_merging.serving.http.errors import RequestError
from twin_merging.serving.http.guard import Guard
from twin_merging.serving.http.naming import Naming
from twin_merging.serving.http.page import PAGE, PAGE_HEADERS
from twin_merging.serving.http.waiting import Desk
from twin_merging.serving.routes import Route

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
PATHS = ("/", "/health", "/metrics", "/v1/models")


class Answers(Protocol):
    """What answers the requests to a model of one family."""

    naming: Naming

    @property
    def posts(self) -> Mapping[str, Callable[[Request], Awaitable[Response]]]:
        """What answers POST, by path."""

    def close(self) -> None:
        """End the threads beside the one that answers clients."""


@dataclass(frozen=True)
class Site:
    """What the paths answer with. about: what `/v1/models` says of every model; key: what clients have to show."""

    desk: Desk
    answers: Answers
    about: Mapping[str, Any]
    key: str | None = None
    has_page: bool = True


def application(site: Site) -> Any:
    """An ASGI application. The engine starts with it, and ends with it."""
    app = FastAPI(title="Twin-Merging", docs_url=None, redoc_url=None, openapi_url=None, lifespan=_lifespan(site))
    engine = site.desk.engine
    began = int(time.time())

    def told(name: str, route: Route) -> dict[str, Any]:
        own = {"id": name, "object": "model", "created": began, "owned_by": "twin-merging"}
        return {**own, "routing": {"kind": route.kind, "task": route.task}, **site.about}

    async def models(request: Request) -> Response:
        all_of_them = [told(name, route) for name, route in site.answers.naming.routes.items()]
        return JSONResponse({"object": "list", "data": all_of_them})

    async def model(request: Request) -> Response:
        name = request.path_params["name"]
        return JSONResponse(told(name, site.answers.naming.known(name)))

    async def health(request: Request) -> Response:
        if not engine.is_well:
            raise RequestError("the engine has stopped", status=503, code="server_ends")
        return JSONResponse({"status": "ok", "queue": engine.waiting, "running": engine.running})

    async def metrics(request: Request) -> Response:
        return Response(site.desk.metrics.text(), media_type=PROMETHEUS)

    async def page(request: Request) -> Response:
        return HTMLResponse(PAGE, headers=PAGE_HEADERS)

    async def not_found(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        posts = ", ".join(site.answers.posts)
        message = f"{request.method} {request.url.path}: {error.detail}; this model is asked by POST at {posts}"
        return RequestError(message, status=error.status_code, headers=error.headers).response()

    for path, answer in site.answers.posts.items():
        app.add_api_route(path, answer, methods=["POST"])
    app.add_api_route("/v1/models", models, methods=["GET"])
    app.add_api_route("/v1/models/{name:path}", model, methods=["GET"])
    app.add_api_route("/health", health, methods=["GET"])
    app.add_api_route("/metrics", metrics, methods=["GET"])
    if site.has_page:
        app.add_api_route("/", page, methods=["GET"])
    app.add_exception_handler(RequestError, _refused)
    app.add_exception_handler(HTTPException, not_found)
    return Guard(app, site.desk.metrics, site.key, frozenset((*PATHS, *site.answers.posts)))


def _lifespan(site: Site) -> Any:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        site.desk.engine.start()
        yield
        site.answers.close()
        await asyncio.to_thread(site.desk.engine.stop)

    return lifespan


async def _refused(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestError):
        raise error
    return error.response()
