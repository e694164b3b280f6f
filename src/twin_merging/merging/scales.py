"""Options that a merged change is proportional to: several values of one are merged once.

With the change D of one parameter, theta(s) = theta_0 + s D, so that theta(s) = theta_0 + s / s_0 (theta(s_0) -
theta_0), up to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twin_merging.merging.choices import Values
from twin_merging.merging.options import THEN, inner_of
from twin_merging.merging.registry import Method


def scale_of(method: Method, options: Mapping[str, Any]) -> str | None:
    """The path of the option that a method's change is proportional to; None where there is none. Factors A and B that
    are merged apart have a product that is not."""
    if options.get("lora_space") == "factor" or method.scales is None:
        return None
    if method.scales != THEN:
        return method.scales
    inner = scale_of(*inner_of(options))
    return None if inner is None else f"{THEN}.{inner}"


@dataclass(frozen=True)
class Merge:
    """One merge, and the candidates made of it: each one's number, and the factor of the merged change."""

    values: Values
    candidates: Sequence[tuple[int, float]]


def merges_for(candidates: Sequence[Values], scale: str | None) -> list[Merge]:
    """The merges that candidates need: one for all that differ in the value of `scale` alone, at its largest magnitude,
    so that no rounding grows. In the order of the first candidate of each."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for number, values in enumerate(candidates):
        groups.setdefault(tuple(value for path, value in values.items() if path != scale), []).append(number)
    found = []
    for numbers in groups.values():
        factors = {number: candidates[number].get(scale, 1.0) if scale else 1.0 for number in numbers}
        largest = max(numbers, key=lambda number: abs(factors[number]))
        top = factors[largest] or 1.0
        found.append(Merge(candidates[largest], [(number, factor / top) for number, factor in factors.items()]))
    return found
