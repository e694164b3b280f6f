"""The paths of a merged classifier: labels as vLLM's `/v1/classify` gives them, and OpenAI's `/v1/embeddings`."""

from __future__ import annotations

import asyncio
import base64
import struct
import time
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from twin_merging.serving.http.bodies import ClassifyBody, EmbeddingsBody
from twin_merging.serving.http.errors import RequestError
from twin_merging.serving.http.forms import routing_of
from twin_merging.serving.http.naming import Naming
from twin_merging.serving.http.reading import body_of
from twin_merging.serving.http.texts import Texts
from twin_merging.serving.http.waiting import Desk
from twin_merging.serving.routes import SHARED, Route
from twin_merging.serving.rows import Question, Read

BASE64 = "base64"


class Labels:
    """Answers requests to a classifier. texts: of the model's tokenizer; desk: where rows are handed in."""

    kind, has_chat = "labels", False

    def __init__(self, naming: Naming, texts: Texts, desk: Desk):
        self.naming = naming
        self._texts, self._desk = texts, desk

    @property
    def posts(self) -> dict[str, Any]:
        return {"/v1/classify": self.classify, "/v1/embeddings": self.embeddings}

    def close(self) -> None:
        self._texts.close()

    async def classify(self, request: Request) -> Response:
        body = await body_of(request, ClassifyBody)
        route = self.naming.route(body)
        asks = [Question(own, texts, route) for texts, own in await asyncio.wrap_future(self._texts.submit(body.input))]
        found = await self._desk.results(request, asks, Read, "input")
        head = {
            "id": f"classify-{request.state.id}",
            "object": "list",
            "created": int(time.time()),
            "model": self.naming.name(body),
        }
        data = [_label(place, *one) for place, one in enumerate(zip(found, asks, strict=True))]
        return JSONResponse({**head, "data": data, "usage": self._desk.usage(asks)})

    async def embeddings(self, request: Request) -> Response:
        body = await body_of(request, EmbeddingsBody)
        name, served = self.naming.name(body), self.naming.served
        if name not in (served, f"{served}:{SHARED}"):
            told = f"model: embeddings are those of the shared model; ask '{served}', not '{name}'"
            raise RequestError(told, "model")
        given = await asyncio.wrap_future(self._texts.submit(body.input))
        asks = [Question(own, texts, Route("shared"), "embedding") for texts, own in given]
        found = await self._desk.results(request, asks, Read, "input")
        shown = _packed if body.encoding_format == BASE64 else list
        data = [
            {"object": "embedding", "index": place, "embedding": shown(read.values), "truncated": ask.example.is_cut}
            for place, (read, ask) in enumerate(zip(found, asks, strict=True))
        ]
        return JSONResponse({"object": "list", "data": data, "model": name, "usage": self._desk.usage(asks)})


def _label(place: int, read: Read, ask: Question) -> dict[str, Any]:
    """A label has the name that transformers gives to one that has none: a merged model does not know others."""
    probabilities = [] if read.is_value else list(read.values)
    best = max(range(len(probabilities)), key=probabilities.__getitem__, default=None)
    return {
        "index": place,
        "label": None if best is None else f"LABEL_{best}",
        "probs": probabilities,
        "num_classes": len(read.values),
        "value": read.values[0] if read.is_value else None,
        "truncated": ask.example.is_cut,
        "routing": None if read.routing is None else routing_of(read.routing),
    }


def _packed(values: tuple[float, ...]) -> str:
    """Little-endian fp32 in base64, as OpenAI's client reads it."""
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()
