"""Options of a question: their texts, in a column of lists or in several columns, and which of them is right."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

from twin_merging.errors import UserError
from twin_merging.tasks.texts import is_list

if TYPE_CHECKING:
    import pandas as pd

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
Columns = str | tuple[str, ...]  # one that holds lists, or one an option


def named_columns(columns: Columns) -> tuple[str, ...]:
    return (columns,) if isinstance(columns, str) else columns


def option_texts(rows: pd.DataFrame, columns: Columns) -> list[tuple[str, ...]]:
    """The texts of each row's options, in their order."""
    if isinstance(columns, str):
        return [texts_of(value) for value in rows[columns].tolist()]
    return [tuple(map(str, texts)) for texts in zip(*(rows[name].tolist() for name in columns), strict=True)]


def texts_of(value: Any) -> tuple[str, ...]:
    """The texts of a cell: of a list, or the one that it is."""
    return (str(value),) if not is_list(value) else tuple(str(one) for one in value)


def place_of(value: Any, options: Sequence[str]) -> int | None:
    """Which option a value names, counted from 0: by its number or its letter, else by its text. None where it names
    none of them, or a text that two of them have."""
    if isinstance(value, bool):
        return None
    if isinstance(value, Integral) or (isinstance(value, float) and value.is_integer()):
        return int(value) if 0 <= int(value) < len(options) else None
    text = str(value).strip()
    if len(text) == 1 and text in LETTERS[: len(options)]:
        return LETTERS.index(text)
    if text.isdecimal() and int(text) < len(options):
        return int(text)
    alike = [number for number, option in enumerate(options) if option.strip() == text]
    return alike[0] if len(alike) == 1 else None


def checked_places(rows: pd.DataFrame, options: Sequence[Sequence[str]], column: str, where: str) -> list[int]:
    """Which option of each row is right. Raises UserError for the first row that does not say it."""
    found = []
    for row, texts, value in zip(rows.index, options, rows[column].tolist(), strict=True):
        check_count(texts, f"{where}: row {row}")
        place = place_of(value, texts)
        if place is None:
            raise UserError(
                f"{where}: row {row} has {value!r:.60} in column '{column}', which is none of {len(texts)} options: "
                f"write the option's number from 0 to {len(texts) - 1}, its letter, or its text, which no other has"
            )
        found.append(place)
    return found


def check_count(texts: Sequence[str], row: str) -> None:
    """Raise UserError for a row without a choice, or with more options than there are letters."""
    if not 2 <= len(texts) <= len(LETTERS):
        raise UserError(f"{row} has {len(texts)} options; give it 2 to {len(LETTERS)}")
