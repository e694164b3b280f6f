"""The file of a model's predictions: a row for each row that was answered."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin_merging.io.files import whole_file
from twin_merging.prediction.answers import RowAnswer
from twin_merging.routing.verdicts import VERDICT
from twin_merging.tasks.answering import Waiting
from twin_merging.tasks.task import Answers
from twin_merging.tasks.texts import is_missing

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ["task", "row", "output", "reference", "weights"]


def stored_row(row: Waiting, answer: RowAnswer) -> dict[str, Any]:
    """What is stored of a row's answer, by column, as plain data."""
    found = {**row.view.stored(answer.answer, row.choices), "weights": answer.weights}
    if answer.routed is None:
        return found
    return {**found, "routed": answer.routed, "unknown": not any(answer.weights or ())}


def write_predictions(
    rows: Mapping[str, pd.DataFrame],
    tasks: Mapping[str, Answers],
    stored: Sequence[Mapping[str, Any]],
    columns: Mapping[str, Any],
    output: Path,
) -> None:
    """Write what is stored of the rows of every task, beside what is right. columns: those that a family has beside
    the ones that all have, as type by name."""
    import pandas as pd

    table = references_of(rows, tasks)
    table["output"] = [row["output"] for row in stored]
    for name in ("weights", *columns):
        table[name] = pd.Series([row[name] for row in stored], dtype=object)
    verdict = [name for name in VERDICT if stored and name in stored[0]]
    for name in verdict:
        table[name] = [row[name] for row in stored]
    table = table[[*COLUMNS, *verdict, *columns]]
    with whole_file(output) as partial:
        table.to_parquet(partial, index=False, **({"schema": _schema(table, columns)} if columns else {}))


def references_of(rows: Mapping[str, pd.DataFrame], tasks: Mapping[str, Answers]) -> pd.DataFrame:
    """task, row and reference of the rows of every task."""
    import pandas as pd

    parts = [
        pd.DataFrame({"task": task, "row": range(len(table)), "reference": tasks[task].references(table).to_numpy()})
        for task, table in rows.items()
    ]
    return pd.concat(parts, ignore_index=True)


def stored_rows(table: pd.DataFrame, columns: Collection[str]) -> list[dict[str, Any]]:
    """The lines of a file of predictions, with lists in the place of arrays, and None for what is missing in the
    family's `columns`."""
    found: list[dict[str, Any]] = []
    for line in table.to_dict("records"):
        row = {str(name): value.tolist() if hasattr(value, "tolist") else value for name, value in line.items()}
        found.append({name: None if name in columns and is_missing(value) else value for name, value in row.items()})
    return found


def _schema(table: pd.DataFrame, columns: Mapping[str, Any]) -> Any:
    """The types that a table is written in: those of `columns` as they are told, though all values may be missing."""
    import pyarrow

    lists = {list[int]: pyarrow.list_(pyarrow.int64()), list[float]: pyarrow.list_(pyarrow.float64())}
    types = {str: pyarrow.string(), **lists}
    schema = pyarrow.Schema.from_pandas(table, preserve_index=False)
    for name, kind in {**columns, "weights": list[float]}.items():
        schema = schema.set(schema.get_field_index(name), pyarrow.field(name, types[kind]))
    return schema
