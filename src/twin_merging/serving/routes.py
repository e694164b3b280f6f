"""Whose knowledge answers a prompt: what a client names, and what it becomes of the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from twin_merging.errors import unknown
from twin_merging.routing.verdicts import Routed

SHARED = "shared"


@dataclass(frozen=True)
class Route:
    """routed: as the model's router says; task: that expert alone; shared: the shared body alone; weights: the client's
    own, one for each of the model's tasks. task: for `task` its name; for `weights` whose private parameters answer."""

    kind: Literal["routed", "task", "shared", "weights"] = "routed"
    task: str | None = None
    weights: tuple[float, ...] = ()


def names(model: Any, served: str) -> dict[str, Route]:
    """The names that a client may ask for: NAME, NAME:<task>, and NAME:shared. A task that is called `shared` keeps its
    name. What a model cannot do is not among them: to route without a router, to be an expert that it does not hold."""
    found: dict[str, Route] = {}
    if not model.needs_tasks:
        found[served] = Route()
    if model.router is not None:
        found[f"{served}:{SHARED}"] = Route("shared")
    if model.router is not None or model.has_private:
        found |= {f"{served}:{task}": Route("task", task) for task in model.known}
    return found


def own_weights(model: Any, weights: Mapping[str, float], task: str | None) -> Route:
    """A client's own weights. Raises ValueError for a model that takes none, and for an unknown task."""
    if model.router is None:
        raise ValueError("this model has no exclusive vectors to weigh")
    for name in weights:
        if name not in model.tasks:
            raise ValueError(unknown("task", name, model.tasks))
    if task is not None and task not in model.known:
        raise ValueError(unknown("task", task, model.known))
    return Route("weights", task, tuple(float(weights.get(name, 0.0)) for name in model.tasks))


@dataclass(frozen=True)
class Routing:
    """Whose knowledge answers: the task of the largest weight (or whose private parameters answer), and all weights."""

    task: str | None
    weights: Mapping[str, float]


@dataclass
class Mixtures:
    """Whose knowledge answers the rows of a batch. weights (rows, T): None for a model without a router; tasks (rows,):
    the number, among the model's known tasks, of the one whose private parameters answer; None where nothing is
    private and there is no router; told: what clients are told of it."""

    weights: torch.Tensor | None
    tasks: torch.Tensor | None
    told: list[str | None]
    _mixture: Any = field(default=None, init=False)

    def kept(self, places: Sequence[int]) -> Mixtures:
        """The rows at these places, which may stand there more than once."""
        own = list(places)
        weights, tasks = (None if one is None else one[own] for one in (self.weights, self.tasks))
        return Mixtures(weights, tasks, [self.told[place] for place in own])

    def joined(self, other: Mixtures) -> Mixtures:
        """These rows, and then those of another batch of the same model."""
        weights = _joined(self.weights, other.weights)
        return Mixtures(weights, _joined(self.tasks, other.tasks), self.told + other.told)

    def routing(self, model: Any, row: int) -> Routing:
        """What a client is told of a row."""
        weights = [] if self.weights is None else self.weights[row].tolist()
        return Routing(self.told[row], dict(zip(model.tasks, weights, strict=False)))

    def names(self, model: Any) -> list[str]:
        """Whose private parameters answer each row, of a model that has some."""
        return [] if self.tasks is None else [model.known[number] for number in self.tasks.tolist()]

    def holding(self, model: Any) -> Any:
        """The context of the model's passes over these rows."""
        if self._mixture is None:
            self._mixture = model.mixture(self.weights, self.tasks)
        return model.gates.holding(self._mixture)


def _joined(one: torch.Tensor | None, other: torch.Tensor | None) -> torch.Tensor | None:
    return None if one is None or other is None else torch.cat([one, other])


def mixtures(model: Any, routes: Sequence[Route], find: Callable[[list[int]], Routed]) -> Mixtures:
    """The mixtures for a batch of rows. find: what the router says of the rows at these places, which are those that
    need it."""
    told = [route.task for route in routes]
    device = model.device
    named = torch.tensor([0 if task is None else model.known.index(task) for task in told], device=device)
    if model.router is None:
        return Mixtures(None, named if model.has_private else None, told)
    weights = torch.zeros(len(routes), len(model.tasks), device=device)
    asked = [row for row, route in enumerate(routes) if _needs_router(model, route)]
    if asked:
        found = find(asked)
        weights[asked] = found.weights.float()
        unnamed = [(row, task) for row, task in zip(asked, found.tasks.tolist(), strict=True) if told[row] is None]
        for row, task in unnamed:
            named[row] = task
            told[row] = model.tasks[task]
    for row, route in enumerate(routes):
        if route.kind == "shared":
            told[row], weights[row] = None, 0
        elif route.kind == "weights":
            weights[row] = torch.tensor(route.weights, device=device)
            if route.task is None and any(route.weights):
                named[row] = int(weights[row].argmax())
                told[row] = model.tasks[int(named[row])]
        elif route.kind == "task" and route.task in model.tasks:
            weights[row] = 0
            weights[row, model.tasks.index(route.task)] = 1
    return Mixtures(weights, named, told)


def _needs_router(model: Any, route: Route) -> bool:
    """Where parameters are private, even the shared body needs some task's: the routed one's. A task that was left out
    of the merge has no vector of its own, and its private parameters stand on the routed mixture."""
    if model.needs_tasks:
        return False
    if route.kind == "task":
        return route.task not in model.tasks
    return route.kind == "routed" or (route.kind == "shared" and model.has_private)
