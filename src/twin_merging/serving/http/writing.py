"""The paths of a merged language model: OpenAI's completions and chat completions."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import Request, Response

from twin_merging.serving.http.asking import Asking
from twin_merging.serving.http.bodies import ChatBody, CompletionBody
from twin_merging.serving.http.endpoints import Endpoints
from twin_merging.serving.http.forms import Chats, Completions, Shown
from twin_merging.serving.http.naming import Naming
from twin_merging.serving.http.prompts import Prompts
from twin_merging.serving.http.reading import body_of
from twin_merging.serving.http.waiting import Desk


class Writing:
    """Answers requests to a language model. prompts, shown: of its tokenizer; desk: where rows are handed in."""

    kind = "text"

    def __init__(self, naming: Naming, prompts: Prompts, shown: Shown, desk: Desk):
        self.naming = naming
        self._prompts, self._asking, self._endpoints = prompts, Asking(naming, prompts), Endpoints(desk)
        self._completions, self._chats = Completions(shown), Chats(shown)

    @property
    def has_chat(self) -> bool:
        return self._prompts.has_chat

    @property
    def posts(self) -> dict[str, Any]:
        return {"/v1/completions": self.completion, "/v1/chat/completions": self.chat}

    def close(self) -> None:
        self._prompts.close()

    async def completion(self, request: Request) -> Response:
        body = await body_of(request, CompletionBody)
        prompts = await asyncio.wrap_future(self._prompts.submit(body.prompt))
        return await self._endpoints.answer(request, self._asking.completion(body, prompts), self._completions)

    async def chat(self, request: Request) -> Response:
        body = await body_of(request, ChatBody)
        prompts = await asyncio.wrap_future(self._prompts.submit_chat(body.messages))
        return await self._endpoints.answer(request, self._asking.chat(body, prompts), self._chats)
