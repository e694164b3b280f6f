"""The `features` of a suite: which hidden states a router reads.

`last` is the last hidden state, as in the paper. `embedding` is what enters the first layer. `{layer: k}` is what
leaves layer k, from 1 to L. `{layers: [...]}` is several of these, side by side. Layer 0 means the embedding, and layer
L the last hidden state.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

LAST, EMBEDDING = "last", "embedding"

Features = str | Mapping[str, Any]


def normal_form(features: Features) -> Features:
    """Write `features` in one fixed way, so that equal ones are written equally. Raises ValueError for wrong layers."""
    if isinstance(features, str):
        return features
    if len(features) != 1:
        raise ValueError(f"give exactly one of layer, layers (here: {', '.join(features) or 'none'})")
    if "layer" in features:
        return EMBEDDING if features["layer"] == 0 else {"layer": int(features["layer"])}
    layers = sorted({int(layer) for layer in features["layers"]})
    return normal_form({"layer": layers[0]}) if len(layers) == 1 else {"layers": layers}


def features_name(features: Features) -> str:
    """The name of features in paths of files: last, embedding, layer-3, layers-0-2-4."""
    found = normal_form(features)
    if isinstance(found, str):
        return found
    return f"layer-{found['layer']}" if "layer" in found else "layers-" + "-".join(map(str, found["layers"]))


def features_named(name: str) -> Features:
    """The features that a name stands for. Raises ValueError if it names none."""
    if name in (LAST, EMBEDDING):
        return name
    kind, _, numbers = name.partition("-")
    layers = [int(number) for number in numbers.split("-")] if re.fullmatch(r"\d+(-\d+)*", numbers) else []
    found: Features = {"layer": layers[0]} if kind == "layer" and layers else {"layers": layers}
    if not layers or kind not in ("layer", "layers") or features_name(found) != name:
        raise ValueError(f"'{name}' names no features")
    return found


def layers_of(features: Features, count: int) -> list[int]:
    """The numbers of the hidden states that are read. Raises ValueError for a layer above `count`, the last one."""
    found = normal_form(features)
    named = {LAST: [count], EMBEDDING: [0]}
    layers = named[found] if isinstance(found, str) else found.get("layers", [found.get("layer")])
    if max(layers) > count:
        raise ValueError(f"features: layer {max(layers)} is asked for, but the body has {count} layers")
    return layers


def single_layer(features: Features) -> int | None:
    """The one layer that is read, with 0 for the embedding. None for the last hidden state, and for several layers."""
    found = normal_form(features)
    if isinstance(found, str):
        return 0 if found == EMBEDDING else None
    return found.get("layer")
