"""Labels of rows as numbers, whatever they are written as: numbers, text, names, true and false."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from decimal import Decimal
from numbers import Real
from typing import TYPE_CHECKING, Any

from twin_merging.checkpoints.label_names import comparable
from twin_merging.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

_WHOLE = re.compile(r"[+-]?\d+(\.0*)?")
_NAMES = "name them in their order with label_names in the suite's task"


def class_numbers(column: pd.Series, count: int, names: Sequence[str] | None, where: str) -> list[int]:
    """Labels 0 to count - 1 of classes. names: what the labels are called, in their order, where that is known.

    Text is one of the names in all rows; else, where no name looks like a number, a whole number in all rows; else
    true or false in all rows.
    """
    values = column.astype(object).tolist()
    meant = _meaning([value for value in values if isinstance(value, str)], names)
    found = []
    for row, value in zip(column.index, values, strict=True):
        number = meant.get(value) if isinstance(value, str) else _whole(value)
        if number is None or not 0 <= number < count:
            raise UserError(f"{where}: row {row} has label {_shown(value)}{_fault(value, number, count, names)}")
        found.append(number)
    return found


def real_numbers(column: pd.Series, where: str) -> list[float]:
    """Labels of a regression: finite numbers, which may be written as text."""
    found = []
    for row, value in zip(column.index, column.astype(object).tolist(), strict=True):
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            text = ", which is text and no number" if isinstance(value, str) else ""
            raise UserError(
                f"{where}: row {row} has label {_shown(value)}{text}; labels: 1 is a regression, which takes finite "
                "numbers"
            )
        found.append(number)
    return found


def _meaning(texts: Sequence[str], names: Sequence[str] | None) -> dict[str, int]:
    """The number that each text stands for; none for a text of which that is not known."""
    kinds = sorted(set(texts))
    by_name = {comparable(name): number for number, name in enumerate(names or ())}
    by_name = by_name if len(by_name) == len(names or ()) else {}  # two that differ in case alone are told apart
    exact = {name: number for number, name in enumerate(names or ())}
    found = {text: exact.get(text, by_name.get(comparable(text))) for text in kinds}
    named = {text: number for text, number in found.items() if number is not None}
    if len(named) == len(kinds) or any(_WHOLE.fullmatch(name.strip()) for name in names or ()):
        return named
    whole = {text: int(float(text)) for text in kinds if _WHOLE.fullmatch(text.strip())}
    if len(whole) == len(kinds) or (whole and not named):
        return whole
    truth = {text: text.strip().lower() == "true" for text in kinds if text.strip().lower() in ("true", "false")}
    return {text: int(value) for text, value in truth.items()} if len(truth) == len(kinds) else named


def _whole(value: Any) -> int | None:
    """A whole number that a value is; None for another value."""
    import numpy as np

    if isinstance(value, np.bool_):
        return int(value)
    if not isinstance(value, (Real, Decimal)) or not math.isfinite(value):
        return None
    whole: Any = math.trunc(value)
    return whole if whole == value else None


def _fault(value: Any, number: int | None, count: int, names: Sequence[str] | None) -> str:
    allowed = f"labels: {count} allows 0 to {count - 1}"
    if not isinstance(value, str):
        return f"; {allowed}"
    if number is not None:
        return f", which is text for {number}; {allowed}"
    if names:
        return f", which is text and none of the labels' names, {', '.join(names)}; correct the row or label_names"
    return f", which is text; {allowed}: {_NAMES}"


def _shown(value: Any) -> str:
    return f'"{value:.40}"' if isinstance(value, str) else f"{value!s:.40}"
