"""Parameters of a merge as mergekit's files give them: numbers, gradients over the layers, and filters by name."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from twin_merging.io.fields import shown

REQUIRED: Any = object()


@dataclass(frozen=True)
class Setting:
    """A parameter that a method takes: a number or a flag, with its limits (least and most are allowed themselves,
    `above` and `below` are not). of_model: whether each model has a value of its own."""

    default: Any = REQUIRED
    of_model: bool = False
    is_flag: bool = False
    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf

    def check(self, at: str, given: Any) -> None:
        """Raise ValueError with the key and the value where what a file gives is no value of this parameter."""
        if isinstance(given, Mapping):
            self._check_filter(at, given)
        elif isinstance(given, (list, tuple)):
            if not given:
                raise ValueError(f"{at}: is empty; give it a value")
            for number, part in enumerate(given):
                if isinstance(part, Mapping):
                    self._check_filter(f"{at}.{number}", part)
                elif any(isinstance(other, Mapping) for other in given):
                    raise ValueError(f"{at}.{number}: {shown(part)} stands beside filters; write it as "
                                     "{value: ...}")  # fmt: skip
                else:
                    self.scalar(f"{at}.{number}", part)
        else:
            self.scalar(at, given)

    def _check_filter(self, at: str, given: Mapping[str, Any]) -> None:
        for key in given:
            if key not in ("filter", "value"):
                raise ValueError(f"{at}.{key}: unknown key; allowed: filter, value")
        if "value" not in given:
            raise ValueError(f"{at}: key 'value' is missing; give the value that the filter is for")
        pattern = given.get("filter")
        if pattern is not None and not isinstance(pattern, str):
            raise ValueError(f"{at}.filter: {shown(pattern)} is not text; put it in quotes")
        if isinstance(given["value"], Mapping) or any(isinstance(part, Mapping) for part in _listed(given["value"])):
            raise ValueError(f"{at}.value: a filter within a filter; give a number or a list of numbers")
        self.check(f"{at}.value", given["value"])

    def scalar(self, at: str, value: Any) -> Any:
        """One value, as a number or a flag."""
        if self.is_flag:
            if not isinstance(value, bool):
                raise ValueError(f"{at}: {shown(value)} is not true or false")
            return value
        number = _number(value)
        if number is None:
            raise ValueError(f"{at}: {shown(value)} is not a number")
        for is_out, words in (
            (number < self.least, f"must be at least {shown(self.least)}"),
            (number > self.most, f"must be at most {shown(self.most)}"),
            (number <= self.above, f"must be more than {shown(self.above)}"),
            (number >= self.below, f"must be less than {shown(self.below)}"),
        ):
            if is_out:
                raise ValueError(f"{at}: {shown(value)} {words}")
        return number


def is_gradient(given: Any) -> bool:
    """Whether what a file gives has a list of numbers in it, of which each layer gets its own."""
    if isinstance(given, Mapping):
        return is_gradient(given.get("value"))
    parts = _listed(given)
    return any(is_gradient(part) for part in parts) if any(isinstance(part, Mapping) for part in parts) else bool(parts)


def value_of(setting: Setting, given: Iterable[Any], name: str, t: float) -> Any:
    """A parameter's value for a tensor: the first of what is given that has one, else the default (REQUIRED: none).

    given: what the file has, the innermost first. name: the tensor's. t: the place of its layer within its slice, from
    0 (the first layer) to 1 (the last).
    """
    for one in given:
        value = _evaluated(setting, one, name, t)
        if value is not None:
            return value
    return setting.default


def _evaluated(setting: Setting, given: Any, name: str, t: float) -> Any:
    if given is None:
        return None
    parts = _listed(given)
    if isinstance(given, Mapping) or any(isinstance(part, Mapping) for part in parts):
        fitting = (part for part in (parts or [given]) if _fits(part.get("filter"), name))
        first = next(fitting, None)
        return None if first is None else _evaluated(setting, first["value"], name, t)
    if not parts:
        return setting.scalar(name, given)
    values = [setting.scalar(name, part) for part in parts]
    place = t * (len(values) - 1)
    if setting.is_flag:
        return values[int(place)]
    first = int(place)
    share = place - first
    return (1 - share) * values[first] + share * values[min(first + 1, len(values) - 1)]


def _fits(pattern: str | None, name: str) -> bool:
    """Whether a filter is for a tensor: its text stands in the tensor's name, or it is for all."""
    return pattern is None or pattern == "*" or pattern in name


def _listed(given: Any) -> list[Any]:
    return list(given) if isinstance(given, (list, tuple)) else []


def _number(value: Any) -> float | None:
    """A number, also one that YAML takes for text because its exponent has no point before it (1e-3)."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
