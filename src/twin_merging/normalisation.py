"""Absolute and normalised scores of a suite's models, and how they are written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

AVERAGE = "avg"
EXPERTS = "experts"


def absolute_scores(scores: pd.DataFrame, tasks: Sequence[str]) -> pd.DataFrame:
    """Scores in percent, a row a model, a column a task, in the order of `scores` and of `tasks`."""
    models = list(dict.fromkeys(scores["model"]))
    return 100 * scores.pivot(index="model", columns="task", values="value").loc[models, list(tasks)]


def expert_scores(absolute: pd.DataFrame) -> pd.Series:
    """Each task's expert on its own task."""
    return pd.Series({task: absolute.loc[f"expert-{task}", task] for task in absolute.columns})


def normalised_scores(absolute: pd.DataFrame) -> pd.DataFrame:
    """100 * score / the expert's score on the same rows, and `avg`, their mean over tasks.

    Where an expert scores 0 or less there is no normalised score: the cell is empty for every model, and the average
    leaves the task out. Negative scores stay negative. The row `experts` is 100 by definition.
    """
    experts = expert_scores(absolute)
    merged = absolute[[not model.startswith("expert-") for model in absolute.index]]
    with_experts = pd.concat([merged, experts.to_frame(EXPERTS).T])
    table = 100 * with_experts / experts.where(experts > 0, np.nan)
    table[AVERAGE] = table.mean(axis=1)
    return table


def markdown_table(table: pd.DataFrame) -> str:
    """A pipe table with columns in step, numbers to two digits and to the right."""
    cells = [[str(column) for column in table.columns]]
    cells += [[_cell(value) for value in row] for row in table.itertuples(index=False)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(table.columns))]
    numeric = [pd.api.types.is_numeric_dtype(table[column]) for column in table.columns]
    lines = [
        "| " + " | ".join(c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, numeric, strict=True)) + " |"
        for row in cells
    ]
    rule = "|" + "|".join("-" * (w + 1) + (":" if n else "-") for w, n in zip(widths, numeric, strict=True)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.2f}"
    return str(value)
