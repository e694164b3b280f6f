"""Files of rows that are text, read as they are written: CSV, JSON lines and JSON.

Nothing is guessed. A cell of a CSV file is the text between its separators, whatever it looks like: 007, 1e5, NA and
an empty cell are texts. A value of JSON is what JSON says; a number in a column that is read as text keeps its
spelling. Lines end at newlines (\\n or \\r\\n) alone, and a byte order mark at a file's start is no part of it.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from twin_merging.errors import UserError
from twin_merging.tasks.texts import is_unicode

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]


def read_csv(file: Path, where: str, names: Collection[str] | None = None, **dialect: Any) -> pd.DataFrame:
    """The rows of a CSV file, every column as text.

    where: what an error names as the file; names: of the columns, where the file has no line of them; dialect: as for
    `csv.reader`. Every row must have as many cells as there are columns.
    """
    import pandas as pd

    with _text(file, where) as stream, _any_length():
        lines = csv.reader(stream, strict=True, **dialect)
        try:
            header = list(names) if names is not None else next(filter(None, lines), [])
            columns = _columns(header, where)
            rows = []
            for cells in filter(None, lines):
                if len(cells) != len(header):
                    raise UserError(
                        f"{where}: line {lines.line_num} ends a row of {len(cells)} cells, but there are {len(header)} "
                        "columns; put cells that hold a separator or a newline in quotes"
                    )
                rows.append(cells)
        except csv.Error as error:
            raise UserError(f"{where}: line {lines.line_num}: {_csv_fault(error)}") from None
    values = list(zip(*rows, strict=True)) or [()] * len(header)
    return pd.DataFrame(
        {name: pd.Series(list(cells), dtype=object) for name, cells in zip(columns, values, strict=True)}
    )


def _columns(header: Collection[str], where: str) -> list[str]:
    """Names of columns, each once; those of an index, which writers leave empty, by their place."""
    named = [name or f"column {place}" for place, name in enumerate(header)]
    for name in named:
        if named.count(name) > 1:
            raise UserError(f"{where}: two columns are called '{name}'; give each a name of its own")
    return named


def _csv_fault(error: csv.Error) -> str:
    known = {
        "new-line character": "a carriage return that is no end of a line; put its cell in quotes, or end lines with "
        "newlines",
        "unexpected end of data": "quotes are opened and never closed; close them",
    }
    return next((text for start, text in known.items() if str(error).startswith(start)), f"no CSV: {error}")


@contextmanager
def _any_length() -> Iterator[None]:
    """Cells may be of any length."""
    before = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        yield
    finally:
        csv.field_size_limit(before)


def read_json_rows(file: Path, where: str, texts: Collection[str], field: str | None = None) -> pd.DataFrame:
    """The rows of a file of JSON lines, or of one JSON list of rows; a key that a row lacks is None.

    texts: columns whose numbers, true and false are given as they are spelled. field: the key of the list, in a file
    that is one object.
    """
    with _text(file, where) as stream:
        content = stream.read()
    if field is not None or content.lstrip().startswith("[") or _is_one_object(content):
        return _frame(_whole(content, where, texts, field), where)
    lines = ((number, line) for number, line in enumerate(content.split("\n"), 1) if line.strip())
    return _frame([_row(line, f"{where}: line {number}", texts) for number, line in lines], where)


def _is_one_object(content: str) -> bool:
    """Whether a file is an object of several lines."""
    first, _, rest = content.strip().partition("\n")
    try:
        return bool(rest) and first.strip() == "{" and isinstance(json.loads(content), dict)
    except (ValueError, RecursionError):
        return False


def _whole(content: str, where: str, texts: Collection[str], field: str | None) -> list[Row]:
    def rows_of(**numbers: Any) -> Any:
        found = _parsed(content, where, **numbers)
        if field is None:
            return found
        if not isinstance(found, dict) or field not in found:
            raise UserError(f"{where}: no key '{field}' in it, which its repository says holds the rows")
        return found[field]

    rows = rows_of()
    if not isinstance(rows, list):
        raise UserError(f"{where}: {_kind(rows)}, not a list of rows; write one object a line, or a list of objects")
    for number, row in enumerate(rows):
        _check_row(row, f"{where}: row {number}")
    spelled = rows_of(**_SPELLED) if any(_has_numbers(row, texts) for row in rows) else rows
    return [_with_spelling(row, other, texts) for row, other in zip(rows, spelled, strict=True)]


def _row(line: str, where: str, texts: Collection[str]) -> Row:
    row = _parsed(line, where)
    _check_row(row, where)
    return _with_spelling(row, _parsed(line, where, **_SPELLED), texts) if _has_numbers(row, texts) else row


_SPELLED = {"parse_int": str, "parse_float": str, "parse_constant": str}


def _has_numbers(row: Row, texts: Collection[str]) -> bool:
    return any(isinstance(value, (int, float)) for name in texts for value in _values(row.get(name)))  # true is an int


def _values(cell: Any) -> list[Any]:
    return cell if isinstance(cell, list) else [cell]


def _with_spelling(row: Row, spelled: Row, texts: Collection[str]) -> Row:
    return {name: _spelling(value, spelled[name]) if name in texts else value for name, value in row.items()}


def _spelling(value: Any, spelled: Any) -> Any:
    if isinstance(value, list):
        return [_spelling(one, other) for one, other in zip(value, spelled, strict=True)]
    if isinstance(value, bool):
        return str(value).lower()
    return spelled if isinstance(value, (int, float)) and value == value else value  # NaN stands for no value


def _parsed(text: str, where: str, **numbers: Any) -> Any:
    try:
        return json.loads(text, **numbers)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}" if "\n" in text else f"column {error.colno}"
        raise UserError(f"{where} is no JSON ({error.msg}: {place}); correct it") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is JSON that cannot be read ({error}); correct it") from None


def _check_row(row: Any, where: str) -> None:
    if not isinstance(row, dict):
        raise UserError(f"{where} is {_kind(row)}, not an object with the columns as keys; correct it")


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def _frame(rows: list[Row], where: str) -> pd.DataFrame:
    """Rows as a table, each value as it is."""
    import pandas as pd

    names = list(dict.fromkeys(name for row in rows for name in row))
    for name in names:
        if not is_unicode(name):
            raise UserError(f"{where}: key {name!r} has half of a surrogate pair, which is no character; correct it")
    columns = {name: [row.get(name) for row in rows] for name in names}
    return pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})


def storable(column: pd.Series) -> pd.Series:
    """A column as it is where its values are of one plain kind that a parquet file can hold, else as JSON text."""
    import pyarrow as pa

    def as_json(value: Any) -> str | None:
        return None if value is None else json.dumps(value)

    try:
        found = pa.array(column, from_pandas=True)
    except (pa.ArrowException, OverflowError, UnicodeError):
        return column.map(as_json)
    return column.map(as_json) if pa.types.is_nested(found.type) else column


@contextmanager
def _text(file: Path, where: str) -> Iterator[TextIO]:
    """A file's text, of which lines end at \\n alone, without a byte order mark."""
    try:
        with open(file, encoding="utf-8-sig", newline="\n") as stream:
            yield stream
    except UnicodeDecodeError:
        raise UserError(f"{where}: not in UTF-8; save it as UTF-8") from None


def known_dialect(options: Mapping[str, Any]) -> dict[str, Any] | None:
    """Options of pandas' `read_csv` as those of `read_csv` here; None where one of them has no counterpart."""
    same = ("quotechar", "escapechar", "doublequote", "skipinitialspace", "quoting")
    found: dict[str, Any] = {}
    for name, value in options.items():
        if name in ("sep", "delimiter") and isinstance(value, str) and len(value) == 1:
            found["delimiter"] = value
        elif name in ("names", "column_names"):
            found["names"] = value
        elif name in same:
            found[name] = value
        else:
            return None
    return found
