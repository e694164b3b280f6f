"""From a checked body and its prompts to what the engine is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twin_merging.errors import unknown
from twin_merging.serving.http.bodies import Body, ChatBody, CompletionBody
from twin_merging.serving.http.errors import RequestError
from twin_merging.serving.http.prompts import Prompt, Prompts
from twin_merging.serving.routes import Route, names, own_weights
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
    def rows(self) -> int:
        return len(self.asks) * self.each


class Asking:
    """model: a TwinForCausalLM; served: its name; queue: rows that may wait at most."""

    def __init__(self, model: Any, served: str, prompts: Prompts, queue: int):
        self.served, self.routes = served, names(model, served)
        self._model, self._prompts, self._queue = model, prompts, queue

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
        route = self._route(body)
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
        return self._fitting(
            Asked(
                self._name(body), prompts, asks, each, shown, bool(body.echo), streams, _wants_usage(body),
                body.logprobs is not None,
            )
        )  # fmt: skip

    def chat(self, body: ChatBody, prompts: list[Prompt]) -> Asked:
        if body.top_logprobs is not None and not body.logprobs:
            raise RequestError("top_logprobs: needs logprobs: true", "top_logprobs")
        wanted = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
        scores = (body.top_logprobs or 0) if body.logprobs else None
        route = self._route(body)
        asks = [
            Ask(one.tokens, route, self._prompts.room(one, wanted, "messages"), scores=scores, **self._common(body))
            for one in prompts
        ]
        count = body.n or 1
        return self._fitting(
            Asked(
                self._name(body), prompts, asks, count, count, False, bool(body.stream), _wants_usage(body),
                bool(body.logprobs),
            )
        )  # fmt: skip

    def _common(self, body: Body) -> dict[str, Any]:
        return {
            "stop": tuple(body.stop),
            "temperature": 1.0 if body.temperature is None else body.temperature,
            "top_p": 1.0 if body.top_p is None else body.top_p,
            "seed": body.seed,
            "streams": bool(body.stream),
        }

    def _name(self, body: Body) -> str:
        return self.served if body.model is None else body.model

    def _route(self, body: Body) -> Route:
        name, own = self._name(body), body.routing
        weighs = own is not None and (own.weights is not None or own.task is not None)
        if weighs and name == self.served:
            return self._own_route(body)
        if name == self.served and name not in self.routes:
            raise RequestError(
                f"model: nothing in this model finds a prompt's task; name one of {', '.join(self.routes)}", "model"
            )
        if name not in self.routes:
            raise RequestError(f"model: {unknown('model', name, self.routes)}", "model", 404, "model_not_found")
        if weighs:
            raise RequestError(f"routing: model '{name}' is one mixture already; ask '{self.served}'", "routing")
        return self.routes[name]

    def _own_route(self, body: Body) -> Route:
        own = body.routing
        if own is None or own.weights is None:
            name = f"{self.served}:{None if own is None else own.task}"
            route = self.routes.get(name)
            if route is None or route.kind != "task":
                allowed = [one.task for one in self.routes.values() if one.task]
                raise RequestError(f"routing.task: {unknown('task', str(own and own.task), allowed)}", "routing.task")
            return route
        try:
            return own_weights(self._model, own.weights, own.task)
        except ValueError as error:
            raise RequestError(f"routing.weights: {error}", "routing.weights") from None

    def _fitting(self, asked: Asked) -> Asked:
        if asked.rows > self._queue:
            param = "n" if len(asked.asks) == 1 else "prompt"
            raise RequestError(
                f"{param}: {asked.rows} answers in one request, but at most {self._queue} may wait; ask for fewer",
                param,
            )
        return asked


def _wants_usage(body: Body) -> bool:
    if body.stream_options is not None and not body.stream:
        raise RequestError("stream_options: only with stream: true", "stream_options")
    return body.stream_options is not None and bool(body.stream_options.include_usage)
