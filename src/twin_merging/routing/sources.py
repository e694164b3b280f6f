"""Texts of a task that a router is trained on in the place of its expert's train rows: a file of this machine.

`.txt` has a text a line; `.jsonl`, `.json`, `.csv` and `.parquet` have a row each with the columns that the task reads.
Held-out rows stay those of the task's data, so that a router that learned from other texts is measured on the task's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from twin_merging.errors import UserError
from twin_merging.io.fields import FilledText, problem
from twin_merging.io.validation import Model

if TYPE_CHECKING:
    import pandas as pd

ENDS = (".txt", ".jsonl", ".json", ".csv", ".parquet")


class RouterTexts(Model):
    """Where the texts lie."""

    path: FilledText = Field(
        description="a file: `.txt` with a text a line; `.jsonl`, `.json`, `.csv` or `.parquet` with the task's columns"
    )

    def check(self, columns: Sequence[str]) -> None:
        """Raise for a file whose form is not known, or that cannot hold a row of these columns."""
        end = Path(self.path).suffix
        if end not in ENDS:
            raise problem(f"'{self.path}' must end in {', '.join(ENDS)}", "router_texts", "path")
        if end == ".txt" and len(columns) > 1:
            raise problem(
                f"'{self.path}' has a text a line, but the task reads {', '.join(columns)}; give rows with these",
                "router_texts", "path",
            )  # fmt: skip

    def files(self) -> list[str]:
        """The file, for a workflow to follow. Raises UserError where there is none."""
        if not Path(self.path).is_file():
            raise UserError(
                f"router_texts.path: '{self.path}' is no file; name one (relative paths start at the working directory)"
            )
        return [self.path]


def read_texts(file: Path, columns: Sequence[str], limit: int | None = None) -> pd.DataFrame:
    """The first `limit` rows of a file of texts (all when None), with the columns that a task reads, as text.

    Raises UserError that names the file for one without rows, without a column, or with a row that holds no text.
    """
    import pandas as pd

    from twin_merging.fetching.written import read_csv, read_json_rows
    from twin_merging.tasks.texts import with_texts

    where = str(file)
    match file.suffix:
        case ".txt":
            rows = pd.DataFrame({columns[0]: _lines(file)})
        case ".csv":
            rows = read_csv(file, where)
        case ".parquet":
            rows = _parquet(file)
        case _:
            rows = read_json_rows(file, where, columns)
    if rows.empty:
        raise UserError(f"{where}: holds no texts; give it some")
    for column in columns:
        if column not in rows:
            raise UserError(f"{where}: no column '{column}'; it has {', '.join(map(str, rows.columns))}")
    return with_texts(rows.head(limit or len(rows)), columns, where)


def _lines(file: Path) -> list[str]:
    try:
        content = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: byte {error.start} is not UTF-8; store the file as UTF-8") from None
    return [line for line in content.splitlines() if line.strip()]


def _parquet(file: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_parquet(file)
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: no parquet file ({str(error).splitlines()[0]}); store it as one") from None
