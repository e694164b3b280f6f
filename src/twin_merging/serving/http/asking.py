"""From a checked body and its prompts to what the engine is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twin_merging.serving.http.bodies import Body, ChatBody, CompletionBody
from twin_merging.serving.http.errors import RequestError
from twin_merging.serving.http.naming import Naming
from twin_merging.serving.http.prompts import Prompt, Prompts
from twin_merging.serving.rows import Ask

COMPLETION = 16  # tokens of a completion for which nothing is said, as OpenAI has it


@dataclass(frozen=True)
class Asked:
    """One request. model: the name that its answer carries; asks: one for each prompt; each: answers that are written
    to a prompt, of which `shown` are given; echoes: whether a prompt stands before its answers; has_scores: whether the
    client wants to know what the model says of tokens."""

    model: str
    prompts: list[Prompt]
    asks: list[Ask]
    each: int = 1
    shown: int = 1
    echoes: bool = False
    streams: bool = False
    has_usage: bool = False
    has_scores: bool = False

    @property
    def param(self) -> str:
        """The field that says how many answers are wanted."""
        return "n" if len(self.asks) == 1 else "prompt"


class Asking:
    def __init__(self, naming: Naming, prompts: Prompts):
        self._naming, self._prompts = naming, prompts

    def completion(self, body: CompletionBody, prompts: list[Prompt]) -> Asked:
        shown = body.n or 1
        each = body.best_of or shown
        if each < shown:
            raise RequestError(f"best_of: {each} is less than n, {shown}; raise it", "best_of")
        streams = bool(body.stream)
        if streams and each > shown:
            raise RequestError("best_of: the best answer is known at the end; leave out stream", "best_of")
        scores = 0 if body.logprobs is None and each > shown else body.logprobs
        if streams and body.echo and scores is not None:
            raise RequestError("logprobs: not streamed with echo; leave out one of the three", "logprobs")
        route = self._naming.route(body)
        wanted = COMPLETION if body.max_tokens is None else body.max_tokens
        asks = [
            Ask(
                one.tokens,
                route,
                self._prompts.room(one, wanted, "prompt"),
                scores=scores,
                scores_prompt=bool(body.echo) and body.logprobs is not None,
                **self._common(body),
            )
            for one in prompts
        ]
        return Asked(
            self._naming.name(body), prompts, asks, each, shown, bool(body.echo), streams, _wants_usage(body),
            body.logprobs is not None,
        )  # fmt: skip

    def chat(self, body: ChatBody, prompts: list[Prompt]) -> Asked:
        if body.top_logprobs is not None and not body.logprobs:
            raise RequestError("top_logprobs: needs logprobs: true", "top_logprobs")
        wanted = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
        scores = (body.top_logprobs or 0) if body.logprobs else None
        route = self._naming.route(body)
        asks = [
            Ask(one.tokens, route, self._prompts.room(one, wanted, "messages"), scores=scores, **self._common(body))
            for one in prompts
        ]
        count = body.n or 1
        return Asked(
            self._naming.name(body), prompts, asks, count, count, False, bool(body.stream), _wants_usage(body),
            bool(body.logprobs),
        )  # fmt: skip

    def _common(self, body: Body) -> dict[str, Any]:
        return {
            "stop": tuple(body.stop),
            "temperature": 1.0 if body.temperature is None else body.temperature,
            "top_p": 1.0 if body.top_p is None else body.top_p,
            "seed": body.seed,
            "streams": bool(body.stream),
        }


def _wants_usage(body: Body) -> bool:
    if body.stream_options is not None and not body.stream:
        raise RequestError("stream_options: only with stream: true", "stream_options")
    return body.stream_options is not None and bool(body.stream_options.include_usage)
