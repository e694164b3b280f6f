"""`{choose: [values]}` in a suite's entries: checked, and brought into the entry's normal form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

from pydantic import Field

from twin_merging.io.fields import kinds_of, shown, wrong_kind
from twin_merging.io.validation import Model
from twin_merging.merging.choices import CHOOSE, filled, is_choice, value_at
from twin_merging.merging.options import THEN
from twin_merging.merging.registry import Method, merging_methods

MOST = 400  # candidates of one method
NUMBERS = {"a number", "a whole number"}


class Choice(Model):
    """In the place of a number of a method: the number is chosen on validation rows."""

    choose: tuple[float, ...] = Field(
        min_length=2,
        description="the values that are tried. Each combination of a method's chosen options is merged and answers "
        f"the validation rows, {MOST} combinations at most; the best average of normalised scores is kept, of equal "
        "ones the first",
    )


def is_number(kind: Any) -> bool:
    """Whether an option's type has numbers among its values."""
    return bool(NUMBERS & set(kinds_of(kind)))


def choices_of(content: Mapping[str, Any], method: Method, at: str) -> dict[str, list[Any]]:
    """The choices that an entry of a suite's file asks for, by their options' paths. Raises ValueError for one that is
    wrong."""
    choices = dict(_asked(content, method, at))
    if choices and method.joint:
        raise ValueError(
            f"{at}.{next(iter(choices))}: '{method.name}' runs models with what these options say, so nothing of it is "
            "chosen; give the number, or sweep it"
        )
    if choices and (count := prod(map(len, choices.values()))) > MOST:
        raise ValueError(f"{at}: its choices have {count} combinations, at most {MOST} are tried; give fewer values")
    return choices


def with_choices(choices: Mapping[str, list[Any]], found: Sequence[Mapping[str, Any]], at: str) -> dict[str, Any]:
    """Options in normal form with the choices in their places. found: the normal form of every candidate's options."""
    normal = {path: list(dict.fromkeys(value_at(options, path) for options in found)) for path in choices}
    for path, values in choices.items():
        if len(normal[path]) < len(values):
            raise ValueError(f"{at}.{path}.{CHOOSE}: {shown(values)} has a value twice; leave one out")
    return filled(found[0], {path: {CHOOSE: values} for path, values in normal.items()})


def _asked(content: Mapping[str, Any], method: Method, at: str, before: str = "") -> Iterator[tuple[str, list[Any]]]:
    """The choices of an entry, or of the entry in its `then`. Raises ValueError for the first that is wrong."""
    for key, value in content.items():
        place = f"{at}.{key}"
        if isinstance(value, Mapping) and key == THEN and value.get("method") in merging_methods():
            yield from _asked(value, merging_methods()[value["method"]], place, f"{before}{key}.")
        elif is_choice(value):
            if key in method.options and not is_number(method.options[key].kind):
                kinds = " or ".join(kinds_of(method.options[key].kind))
                raise ValueError(f"{place}: a number can be chosen, but {key} is {kinds}; give one value")
            if key in method.options:
                yield f"{before}{key}", _values(value[CHOOSE], f"{place}.{CHOOSE}")


def _values(values: Any, at: str) -> list[Any]:
    if not isinstance(values, list):
        raise ValueError(f"{at}: {wrong_kind(values, ['a list'])}; give the numbers to try")
    if len(values) < 2:
        what = "is empty" if not values else f"{shown(values)} has one value alone"
        raise ValueError(f"{at}: {what}; give two or more, or a number in the place of the choice")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"{at}: {wrong_kind(value, ['a number'])}")
    return values
