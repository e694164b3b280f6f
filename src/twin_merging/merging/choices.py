"""Options whose value is chosen on validation rows: `{choose: [values]}` in the place of a number.

An option is named by its path in an entry: `scaling`, and `then.scaling` for one of the method that another one hands
its vectors to. A candidate has one value for each option that is chosen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

CHOOSE = "choose"
Values = dict[str, Any]  # an option's path: its value


def is_choice(value: Any) -> bool:
    """Whether a value of a suite's file stands for a choice. (A mapping with a number below `choose` has a value for a
    task of that name.)"""
    return isinstance(value, Mapping) and list(value) == [CHOOSE] and not isinstance(value[CHOOSE], (int, float))


def choices_in(options: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The options that are chosen, by path, with the values that are tried, in the order of the entry."""
    return dict(_places(options, ""))


def _places(options: Mapping[str, Any], before: str) -> Iterator[tuple[str, list[Any]]]:
    for key, value in options.items():
        if is_choice(value):
            yield f"{before}{key}", value[CHOOSE]
        elif isinstance(value, Mapping):
            yield from _places(value, f"{before}{key}.")


def candidates_of(choices: Mapping[str, Sequence[Any]]) -> list[Values]:
    """Every combination of the values: the last option's change fastest."""
    return [dict(zip(choices, values, strict=True)) for values in product(*choices.values())]


def filled(options: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The options with these values in their places."""
    found = dict(options)
    for path, value in values.items():
        first, _, rest = path.partition(".")
        found[first] = filled(found[first], {rest: value}) if rest else value
    return found


def value_at(options: Mapping[str, Any], path: str) -> Any:
    """The value of the option with this path."""
    value: Any = options
    for key in path.split("."):
        value = value[key]
    return value


def method_options(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a suite's entry that are its method's own."""
    return {option: value for option, value in entry.items() if option not in ("method", "protocol")}


def first_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the first candidate, to ask what is the same for all."""
    return filled(options, {path: values[0] for path, values in choices_in(options).items()})


def described(values: Mapping[str, Any]) -> str:
    """`density 0.2, scaling 0.3`"""
    return ", ".join(f"{path} {value:g}" for path, value in values.items())


def listed(values: Iterable[Any]) -> str:
    """Numbers with commas between them."""
    return ", ".join(f"{value:g}" for value in values)
