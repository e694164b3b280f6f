"""Matching the names of two checkpoints of one architecture: with or without the body's prefix, old names or new."""

from __future__ import annotations

from collections.abc import Collection, Iterable

# Names of an output layer that is the input embedding again in a model with tied weights.
OUTPUT_EMBEDDINGS = ("lm_head.weight", "embed_out.weight", "lm_head.decoder.weight", "cls.predictions.decoder.weight")
INPUT_EMBEDDINGS = ("embed_tokens.weight", "word_embeddings.weight", "wte.weight", "embed_in.weight")


def modern(name: str) -> str:
    """A name with today's names for LayerNorm's parameters."""
    stem, _, last = name.rpartition(".")
    return f"{stem}.{ {'gamma': 'weight', 'beta': 'bias'}.get(last, last) }" if stem else last


def match_names(stored: Iterable[str], base: Collection[str]) -> dict[str, str]:
    """For each stored name the base's name of the same parameter, or, where the base has none, its own.

    Tried are the names as they are, without their first part (a body's prefix that the base's lack), and behind the
    first part of the base's names; what fits most of the base's names is taken, in that order.
    """
    names = {name: modern(name) for name in stored}
    known = {modern(name): name for name in base}
    ways = [{name: name for name in names.values()}]
    ways += [strip(names.values(), part) for part in _first_parts(names.values())]
    ways += [{name: f"{part}.{name}" for name in names.values()} for part in _first_parts(known)]
    best = max(ways, key=lambda way: sum(own in known for own in way.values()))
    return {name: known.get(best[own], own) for name, own in names.items()}


def strip(names: Iterable[str], prefix: str) -> dict[str, str]:
    """For each name the name without a first part `prefix`."""
    return {name: name.removeprefix(f"{prefix}.") for name in names}


def _first_parts(names: Iterable[str]) -> list[str]:
    """First parts of names, in a fixed order."""
    return sorted({name.partition(".")[0] for name in names})
