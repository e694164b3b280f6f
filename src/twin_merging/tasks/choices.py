"""Options of a question: their texts, in a column of lists or in several columns, and which of them is right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
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


def by_number(value: Any, options: Sequence[str]) -> int | None:
    """The option that a number counts from 0, also one that is written as text."""
    is_whole = isinstance(value, Integral) or (isinstance(value, float) and value.is_integer())
    is_written = isinstance(value, str) and value.strip().isdecimal()
    if isinstance(value, bool) or not (is_whole or is_written):
        return None
    return int(value) if 0 <= int(value) < len(options) else None


def by_letter(value: Any, options: Sequence[str]) -> int | None:
    letter = value.strip() if isinstance(value, str) else ""
    return LETTERS.index(letter) if len(letter) == 1 and letter in LETTERS[: len(options)] else None


def by_text(value: Any, options: Sequence[str]) -> int | None:
    """The option of that text; None where two have it."""
    text = value.strip() if isinstance(value, str) else None
    alike = [place for place, option in enumerate(options) if option.strip() == text]
    return alike[0] if len(alike) == 1 else None


# How a column may say which option is right, and what it is then called.
READINGS: dict[str, Callable[[Any, Sequence[str]], int | None]] = {
    "number": by_number,
    "letter": by_letter,
    "text": by_text,
}


def checked_places(rows: pd.DataFrame, options: Sequence[Sequence[str]], column: str, where: str) -> list[int]:
    """Which option of each row is right: a column says it by numbers from 0, by letters or by texts; where all rows
    can be read in one of these ways, that is meant, else each row is read by itself.

    Raises UserError for the first row that names no option, or one that two ways of reading take for two options (`2`
    among the options `1`, `2`, `3`).
    """
    values = rows[column].tolist()
    for row, texts in zip(rows.index, options, strict=True):
        check_count(texts, f"{where}: row {row}")
    read = {
        name: [reading(value, texts) for value, texts in zip(values, options, strict=True)]
        for name, reading in READINGS.items()
    }
    whole = {name: places for name, places in read.items() if None not in places}
    found = []
    for at, (row, value) in enumerate(zip(rows.index, values, strict=True)):
        places = {name: place for name, each in (whole or read).items() if (place := each[at]) is not None}
        said = f"{where}: row {row} has {value!r:.60} in column '{column}', which is"
        if not places:
            raise UserError(
                f"{said} none of {len(options[at])} options: write the option's number from 0 to "
                f"{len(options[at]) - 1}, its letter, or its text, which no other has"
            )
        if len(set(places.values())) > 1:
            (one, place), (other, another) = next(
                pair for pair in combinations(places.items(), 2) if pair[0][1] != pair[1][1]
            )
            raise UserError(
                f"{said} the {one} of option {LETTERS[place]} and the {other} of option {LETTERS[another]}: say it in "
                f"all rows by {'letters' if 'letter' not in places else 'numbers'}"
            )
        found.append(next(iter(places.values())))
    return found


def right_places(rows: pd.DataFrame, options: Sequence[Sequence[str]], column: str) -> list[int]:
    """The same of rows that were checked, whose right options are letters, and of others as they are."""
    letters = [by_letter(value, texts) for value, texts in zip(rows[column].tolist(), options, strict=True)]
    found = [place for place in letters if place is not None]
    return found if len(found) == len(letters) else checked_places(rows, options, column, "rows of the task")


def check_count(texts: Sequence[str], row: str) -> None:
    """Raise UserError for a row without a choice, or with more options than there are letters."""
    if not 2 <= len(texts) <= len(LETTERS):
        raise UserError(f"{row} has {len(texts)} options; give it 2 to {len(LETTERS)}")
