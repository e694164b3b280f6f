"""Kinds of routers and the options of each, for suites: nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

OPTIONS: dict[str, tuple[str, ...]] = {
    "mlp": ("hidden_size", "epochs", "batch_size", "learning_rate", "weight_decay", "dropout"),
    "mahalanobis": (),
    "neighbours": ("neighbours", "stored"),
    "projection": ("rank",),
}


def router_settings(section: Mapping[str, Any]) -> dict[str, Any]:
    """What a router of a suite's completed `router` section depends on: kind, features, the kind's own options, and
    for a projection the `layer` whose matrices it reads. Raises ValueError where these do not fit."""
    kind = section["kind"]
    settings = {key: section[key] for key in ("kind", "features", *OPTIONS[kind])}
    if kind == "projection":
        settings["layer"] = layer_that_reads(section["features"])
    return settings


def layer_that_reads(features: Any) -> int:
    """The layer that a single hidden state enters: layer 0 for `embedding`, layer k for `{layer: k}`."""
    if features == "embedding":
        return 0
    if isinstance(features, Mapping) and set(features) == {"layer"}:
        return int(features["layer"])
    raise ValueError(
        f"kind projection needs features: embedding or {{layer: k}}, a state that one layer reads, not {features!r}"
    )
