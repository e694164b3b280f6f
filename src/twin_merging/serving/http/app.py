"""The paths of the server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException

from twin_merging.serving.engine import Engine
from twin_merging.serving.http.asking import Asking
from twin_merging.serving.http.bodies import ChatBody, CompletionBody
from twin_merging.serving.http.endpoints import Endpoints
from twin_merging.serving.http.errors import RequestError
from twin_merging.serving.http.forms import Chats, Completions, Shown
from twin_merging.serving.http.guard import Guard
from twin_merging.serving.http.metrics import Metrics
from twin_merging.serving.http.page import PAGE, PAGE_HEADERS
from twin_merging.serving.http.prompts import Prompts
from twin_merging.serving.http.reading import body_of

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
PATHS = ("/", "/health", "/metrics", "/v1/models", "/v1/completions", "/v1/chat/completions")


@dataclass(frozen=True)
class Site:
    """What the paths answer with. about: what `/v1/models` says of every model; key: what clients have to show;
    seconds: within which a request has to be answered."""

    engine: Engine
    metrics: Metrics
    asking: Asking
    prompts: Prompts
    shown: Shown
    about: Mapping[str, Any]
    key: str | None = None
    seconds: float = 600.0
    has_page: bool = True


def application(site: Site) -> Any:
    """An ASGI application. The engine starts with it, and ends with it."""
    app = FastAPI(title="Twin-Merging", docs_url=None, redoc_url=None, openapi_url=None, lifespan=_lifespan(site))
    endpoints = Endpoints(site.engine, site.metrics, site.seconds)
    completions, chats = Completions(site.shown), Chats(site.shown)
    began = int(time.time())

    async def completion(request: Request) -> Response:
        body = await body_of(request, CompletionBody)
        prompts = await asyncio.wrap_future(site.prompts.submit(body.prompt))
        return await endpoints.answer(request, site.asking.completion(body, prompts), completions)

    async def chat(request: Request) -> Response:
        body = await body_of(request, ChatBody)
        prompts = await asyncio.wrap_future(site.prompts.submit_chat(body.messages))
        return await endpoints.answer(request, site.asking.chat(body, prompts), chats)

    async def models(request: Request) -> Response:
        each = [
            {"id": name, "object": "model", "created": began, "owned_by": "twin-merging", **_kind(route), **site.about}
            for name, route in site.asking.routes.items()
        ]
        return JSONResponse({"object": "list", "data": each})

    async def health(request: Request) -> Response:
        if not site.engine.is_well:
            raise RequestError("the engine has stopped", status=503, code="server_ends")
        return JSONResponse({"status": "ok", "queue": site.engine.waiting, "running": site.engine.running})

    async def metrics(request: Request) -> Response:
        return Response(site.metrics.text(), media_type=PROMETHEUS)

    async def page(request: Request) -> Response:
        return HTMLResponse(PAGE, headers=PAGE_HEADERS)

    app.add_api_route("/v1/completions", completion, methods=["POST"])
    app.add_api_route("/v1/chat/completions", chat, methods=["POST"])
    app.add_api_route("/v1/models", models, methods=["GET"])
    app.add_api_route("/health", health, methods=["GET"])
    app.add_api_route("/metrics", metrics, methods=["GET"])
    if site.has_page:
        app.add_api_route("/", page, methods=["GET"])
    app.add_exception_handler(RequestError, _refused)
    app.add_exception_handler(HTTPException, _not_found)
    return Guard(app, site.metrics, site.key, frozenset(PATHS))


def _lifespan(site: Site) -> Any:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        site.engine.start()
        yield
        site.prompts.close()
        await asyncio.to_thread(site.engine.stop)

    return lifespan


async def _refused(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestError):
        raise error
    return error.response()


async def _not_found(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    message = f"{request.method} {request.url.path}: {error.detail}; see /v1/models for what is served"
    return RequestError(message, status=error.status_code, headers=error.headers).response()


def _kind(route: Any) -> dict[str, Any]:
    return {"routing": {"kind": route.kind, "task": route.task}}
