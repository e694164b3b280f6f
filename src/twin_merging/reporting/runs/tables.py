"""A suite's table (CSV) as a run of which only the scores are known: for the tables of commits, which hold no rows."""

from __future__ import annotations

import csv
import io
from typing import Any

from twin_merging.errors import UserError

# The columns of a table that are no tasks.
_KNOWN = ("model", "protocol", "true_task", "avg")


def read_table(text: str, place: str) -> dict[str, Any]:
    """The scores of a table, in percent: `scale`, and `scores` by model and task, `avg` among the tasks.

    place: the table's name. It ends in -absolute.csv where scores are absolute; a table of another kind is an error.
    """
    rows = list(csv.DictReader(io.StringIO(text)))
    if not rows or any(column not in rows[0] for column in ("model", "avg")):
        raise UserError(f"{place}: no table of scores, which has the columns 'model' and 'avg'; name SUITE.csv or "
                        "SUITE-absolute.csv")  # fmt: skip
    tasks = [column for column in rows[0] if column not in _KNOWN]
    try:
        scores = {row["model"]: {task: _number(row[task]) for task in [*tasks, "avg"]} for row in rows}
    except (ValueError, TypeError):
        raise UserError(f"{place}: a cell is no number; make the table again") from None
    scale = "absolute" if place.endswith("-absolute.csv") else "normalised"
    return {"table": place, "scale": scale, "tasks": tasks, "scores": scores}


def _number(text: str) -> float | None:
    return float(text) if text else None
