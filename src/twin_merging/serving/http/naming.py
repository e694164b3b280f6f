"""Whose knowledge answers a request: what its `model` and its `routing` say."""

from __future__ import annotations

from typing import Any

from twin_merging.errors import unknown
from twin_merging.serving.http.bodies import Named
from twin_merging.serving.http.errors import RequestError
from twin_merging.serving.routes import Route, names, own_weights


class Naming:
    """model: a merged model; served: its name. routes: by each name that a client may ask for."""

    def __init__(self, model: Any, served: str):
        self.served, self.routes = served, names(model, served)
        self._model = model

    def name(self, body: Named) -> str:
        return self.served if body.model is None else body.model

    def route(self, body: Named) -> Route:
        name, own = self.name(body), body.routing
        weighs = own is not None and (own.weights is not None or own.task is not None)
        if weighs and name == self.served:
            return self._own_route(body)
        if name == self.served and name not in self.routes:
            raise RequestError(
                f"model: nothing in this model finds a prompt's task; name one of {', '.join(self.routes)}", "model"
            )
        found = self.known(name)
        if weighs:
            raise RequestError(f"routing: model '{name}' is one mixture already; ask '{self.served}'", "routing")
        return found

    def known(self, name: str) -> Route:
        """Raises RequestError for a name that nothing has."""
        if name not in self.routes:
            raise RequestError(f"model: {unknown('model', name, self.routes)}", "model", 404, "model_not_found")
        return self.routes[name]

    def _own_route(self, body: Named) -> Route:
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
