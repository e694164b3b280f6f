"""Finds a kind of router by its name, and builds a router from its settings and its stored tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from twin_merging.errors import UserError, unknown
from twin_merging.io.files import read_json
from twin_merging.io.tensors import Checkpoint
from twin_merging.routing.fixed import FixedRouter, OracleRouter, UniformRouter
from twin_merging.routing.mahalanobis import MahalanobisRouter
from twin_merging.routing.mlp import MLPRouter
from twin_merging.routing.neighbours import NeighboursRouter
from twin_merging.routing.projection import ProjectionRouter
from twin_merging.routing.reading import Reading
from twin_merging.routing.router import BELOW, CONFIG, GAINS, WEIGHTS, Router, load_router_tensors

KINDS: dict[str, type[Router]] = {
    kind.kind: kind
    for kind in (MLPRouter, MahalanobisRouter, NeighboursRouter, ProjectionRouter, UniformRouter, OracleRouter)
}


def build_router(
    settings: Mapping[str, Any],
    tasks: list[str],
    state: Mapping[str, torch.Tensor],
    temperature: float = 1.0,
    top_k: int | None = None,
) -> Router:
    """Build a router, in eval mode, from its settings (kind, features and the kind's options) and its stored tensors.

    Raises UserError that names the tensor if the tensors do not fit the kind or the tasks.
    """
    kind = settings.get("kind", "none")
    if kind not in KINDS:
        raise UserError(f"the router's configuration: {unknown('kind', kind, KINDS)}; assemble the model again")
    router = KINDS[kind].shaped_as(state, tasks, settings)
    if not isinstance(router, FixedRouter):
        router.reading = Reading.of_state(state, settings["features"], len(tasks))
    load_router_tensors(router, state)
    router.features, router.temperature, router.top_k = settings["features"], temperature, top_k
    return router.eval()


def load_router(directory: Path) -> Router:
    """Read a router of any kind that `Router.save` wrote.

    Raises UserError that names the file if its tensors do not fit.
    """
    config = read_json(Path(directory) / CONFIG)
    state = Checkpoint(Path(directory) / WEIGHTS)
    router = build_router(config, config["tasks"], state, config["temperature"], config["top_k"])
    router.below = config.get(BELOW)
    router.gains = None if GAINS not in config else torch.tensor(config[GAINS], dtype=torch.float32)
    return router
