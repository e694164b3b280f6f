"""Kinds of routers and the options of each, for suites: nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twin_merging.routing.layers import Features, normal_form, single_layer

OPTIONS: dict[str, tuple[str, ...]] = {
    "mlp": ("hidden_size", "epochs", "batch_size", "learning_rate", "weight_decay", "dropout"),
    "mahalanobis": (),
    "neighbours": ("neighbours", "stored"),
    "projection": ("rank",),
}
SEEDED = ("mlp",)  # kinds that draw random numbers

# As in the suites' schema, for routers that are made without a suite.
DEFAULTS: dict[str, Any] = {
    "kind": "mlp",
    "features": "last",
    "hidden_size": None,
    "epochs": 50,
    "batch_size": 1024,
    "learning_rate": 5e-4,
    "weight_decay": 0.01,
    "dropout": 0.5,
    "neighbours": 10,
    "stored": 100,
    "rank": 8,
}


def router_settings(section: Mapping[str, Any], check: bool = True) -> dict[str, Any]:
    """What a router of a suite's completed `router` section depends on: kind, features, the kind's own options, for a
    projection the `layer` whose matrices it reads, and of an mlp that was trained elsewhere its `hub`.

    Raises ValueError where these do not fit (with `check`).
    """
    kind = section["kind"]
    if kind == "mlp" and section.get("hub"):
        return {key: section[key] for key in ("kind", "features", "hub")}
    settings = {key: section[key] for key in ("kind", "features", *OPTIONS[kind])}
    if kind == "projection" and (check or single_layer(section["features"]) is not None):
        settings["layer"] = layer_that_reads(section["features"])
    return settings


def layer_that_reads(features: Features) -> int:
    """The layer that a single hidden state enters: layer 0 for `embedding`, layer k for `{layer: k}`."""
    layer = single_layer(features)
    if layer is None:
        raise ValueError(
            "kind projection needs features: embedding or {layer: k}, a state that one layer reads, not "
            f"{normal_form(features)!r}"
        )
    return layer
