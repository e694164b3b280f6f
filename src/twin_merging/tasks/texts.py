"""Columns that a task reads as text: what of a table counts as text, and what is refused."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from twin_merging.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


def with_texts(
    rows: pd.DataFrame, columns: Collection[str], where: str, list_columns: Collection[str] = ()
) -> pd.DataFrame:
    """The rows with text in the named columns, and with lists of texts in those of `list_columns` that hold a list.

    Whole numbers, true and false are taken as JSON spells them. Anything else that is no text is refused: a missing
    value, and what has no one spelling (a number with a fraction, a date, bytes, a list where none may be).
    """
    import pandas as pd

    found: dict[str, pd.Series] = {}
    for name in columns:
        if name in list_columns and any(map(is_list, rows[name])):
            found[name] = pd.Series(_lists(rows[name], f"column '{name}'", where), index=rows.index, dtype=object)
        else:
            found[name] = pd.Series(_texts(rows[name], f"column '{name}'", where), index=rows.index, dtype="str")
    return rows.assign(**found)


def is_list(value: Any) -> bool:
    """Whether a cell holds a list: of JSON, or the array that a parquet file's list is read as."""
    import numpy as np

    return isinstance(value, (list, tuple, np.ndarray))


def _lists(column: pd.Series, what: str, where: str) -> list[list[str]]:
    """Each cell as a list of texts; a text alone is a list of one."""
    import pandas as pd

    found = []
    for row, value in column.items():
        texts = list(value) if is_list(value) else [value]
        if not texts:
            raise UserError(f"{where}: row {row} has an empty list in {what}; give it a text")
        found.append(_texts(pd.Series(texts, index=[row] * len(texts), dtype=object), what, where))
    return found


def _texts(column: pd.Series, what: str, where: str) -> list[str]:
    values = column.astype(object).tolist()
    for row, value in zip(column.index, values, strict=True):
        if type(value) is not str and is_missing(value):
            raise UserError(f"{where}: row {row} has no value in {what}; fill it in or remove the row")
    return [
        value if type(value) is str and value.isascii() else _text(value, f"{where}: row {row}", what)
        for row, value in zip(column.index, values, strict=True)
    ]


def _text(value: Any, row: str, what: str) -> str:
    kind, spelled = _described(value)
    if spelled is None:
        raise UserError(f"{row} has {kind} in {what}, which is read as text; store the column as text")
    if not is_unicode(spelled):
        raise UserError(f"{row} has half of a surrogate pair in {what}, which is no character; correct it")
    return spelled


def _described(value: Any) -> tuple[str, str | None]:
    """What a value is, and the text that it stands for where that is plain."""
    import numpy as np

    if isinstance(value, str):
        return "text", str(value)
    if isinstance(value, (bool, np.bool_)):
        return "true or false", str(bool(value)).lower()
    if isinstance(value, (int, np.integer)):
        return "a whole number", str(int(value))
    if isinstance(value, (float, np.floating)):
        return f"the number {value}", None
    if isinstance(value, (list, tuple, np.ndarray)):
        return "a list", None
    name = type(value).__name__
    return {"dict": "an object", "bytes": "bytes"}.get(name, f"a {name}"), None


def is_missing(value: Any) -> bool:
    """Whether a value of a table stands for none: null, NaN, NaT."""
    import pandas as pd

    return bool(pd.api.types.is_scalar(value) and pd.isna(value))


def is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
