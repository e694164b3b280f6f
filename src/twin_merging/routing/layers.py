"""The `features` of a suite: what a router reads of an input.

`last` is the last hidden state, as in the paper. `embedding` is what enters the first layer. `{layer: k}` is what
leaves layer k, from 1 to L. `{layers: [...]}` is several of these, side by side. Layer 0 means the embedding, and layer
L the last hidden state. A mapping may add three more keys. `of: base` takes the hidden states from the base in the
place of the shared expert. `segments: true` keeps the two texts of a pair apart (`segments`). `text: true` adds what
n-grams of the raw text say (`ngrams`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

LAST, EMBEDDING, BASE = "last", "embedding", "base"
SEGMENTS, TEXT = "segments", "text"

Features = str | Mapping[str, Any]

_NAME = re.compile(rf"(?:({BASE})-)?({LAST}|{EMBEDDING}|layers?(?:-\d+)+)(-{SEGMENTS})?(-{TEXT})?")


def normal_form(features: Features) -> Features:
    """Write `features` in one fixed way, so that equal ones are written equally. Raises ValueError for wrong layers."""
    if isinstance(features, str):
        return features
    if "layer" in features and "layers" in features:
        raise ValueError("give exactly one of layer, layers (here: layer, layers)")
    if not features:
        raise ValueError("give exactly one of layer, layers (here: none)")
    beside = {BASE: features.get("of") == BASE, **{key: bool(features.get(key)) for key in (SEGMENTS, TEXT)}}
    of = {"of": BASE} if beside.pop(BASE) else {}
    found = {**of, **_layers(features), **{key: True for key, wanted in beside.items() if wanted}}
    if not found:
        return LAST
    return EMBEDDING if found == {"layer": 0} else found


def _layers(features: Mapping[str, Any]) -> dict[str, Any]:
    if "layers" not in features:
        return {"layer": int(features["layer"])} if "layer" in features else {}
    layers = sorted({int(layer) for layer in features["layers"]})
    return {"layer": layers[0]} if len(layers) == 1 else {"layers": layers}


def _mapping(features: Features) -> Mapping[str, Any]:
    """The normal form as a mapping, whose layers say nothing where the last hidden state is read."""
    found = normal_form(features)
    if isinstance(found, str):
        return {"layer": 0} if found == EMBEDDING else {}
    return found


def of_base(features: Features) -> bool:
    """Whether hidden states of the base are read, not the shared expert's."""
    return _mapping(features).get("of") == BASE


def reads_segments(features: Features) -> bool:
    """Whether the two texts of a pair are kept apart."""
    return bool(_mapping(features).get(SEGMENTS))


def reads_text(features: Features) -> bool:
    """Whether n-grams of the raw text are read."""
    return bool(_mapping(features).get(TEXT))


def read_beside(features: Features) -> list[str]:
    """What is read beside plain hidden states: `segments`, `text`."""
    return [key for key in (SEGMENTS, TEXT) if _mapping(features).get(key)]


def of_one_body(features: Features) -> Features:
    """The same, without whose hidden states they are."""
    return normal_form({**_mapping(features), "of": "shared"})


def features_name(features: Features) -> str:
    """The name of features in paths of files: last, embedding, layer-3, layers-0-2-4, base-layer-3-segments-text."""
    found = _mapping(features)
    layers = found.get("layers", [found["layer"]] if "layer" in found else [])
    numbers = "-".join(map(str, layers))
    state = {0: LAST, 1: f"layer-{numbers}"}.get(len(layers), f"layers-{numbers}")
    state = EMBEDDING if layers == [0] else state
    return "-".join([*([BASE] if "of" in found else []), state, *(key for key in (SEGMENTS, TEXT) if key in found)])


def features_named(name: str) -> Features:
    """The features that a name stands for. Raises ValueError if it names none."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"'{name}' names no features")
    of, state, segments, text = match.groups()
    numbers = [int(number) for number in re.findall(r"\d+", state)]
    layers: dict[str, Any] = {"layers": numbers} if numbers else {"layer": 0} if state == EMBEDDING else {}
    found = normal_form({"of": of or "shared", **layers, SEGMENTS: bool(segments), TEXT: bool(text)})
    if features_name(found) != name:
        raise ValueError(f"'{name}' names no features")
    return found


def layers_of(features: Features, count: int) -> list[int]:
    """The numbers of the hidden states that are read. Raises ValueError for a layer above `count`, the last one."""
    found = _mapping(features)
    layers: list[int] = found.get("layers", [found.get("layer", count)])
    if max(layers) > count:
        raise ValueError(f"features: layer {max(layers)} is asked for, but the body has {count} layers")
    return layers


def single_layer(features: Features) -> int | None:
    """The one layer that is read, with 0 for the embedding. None for the last hidden state, and for several layers."""
    return _mapping(features).get("layer")


def one_hidden_state(features: Features) -> int | None:
    """The same where nothing else is read: a feature is a hidden state of the shared expert, as a layer gets it."""
    found = _mapping(features)
    return found.get("layer") if set(found) == {"layer"} else None
