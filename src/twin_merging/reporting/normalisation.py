"""Computes absolute and normalised scores of a suite's models, and writes tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from tabulate import tabulate

AVERAGE = "avg"
EXPERTS = "experts"
ABSOLUTE, NORMALISED = "absolute", "normalised"  # scales


def absolute_scores(scores: pd.DataFrame, tasks: Sequence[str]) -> pd.DataFrame:
    """A table of scores in percent, with a row for each model (as in `scores`) and a column for each task."""
    models = list(dict.fromkeys(scores["model"]))
    return 100 * scores.pivot(index="model", columns="task", values="value").loc[models, list(tasks)]


def expert_scores(absolute: pd.DataFrame) -> pd.Series:
    """The score of each task's expert on its own task."""
    return pd.Series({task: absolute.loc[f"expert-{task}", task] for task in absolute.columns})


def own_scores(absolute: pd.DataFrame) -> pd.DataFrame:
    """The table without the rows of single experts. A row `experts` has each expert's score on its own task."""
    merged = absolute[[not model.startswith("expert-") for model in absolute.index]]
    return pd.concat([merged, expert_scores(absolute).to_frame(EXPERTS).T])


def with_average(table: pd.DataFrame) -> pd.DataFrame:
    """The table with one more column `avg`: the mean over the tasks that have a score."""
    return table.assign(**{AVERAGE: table.mean(axis=1)})


def normalise(absolute: pd.DataFrame, experts: pd.Series) -> pd.DataFrame:
    """A table of 100 * score / the expert's score, with a row for each model, a column for each task, and `avg`.

    If an expert scores 0 or less, its task has no normalised scores: its cells are empty, and the average leaves the
    task out. Negative scores stay negative.
    """
    return with_average(100 * absolute / experts.where(experts > 0, np.nan))


def normalised_scores(absolute: pd.DataFrame) -> pd.DataFrame:
    """The normalised scores of a suite's models. The row `experts` is 100 by definition."""
    return normalise(own_scores(absolute), expert_scores(absolute))


def markdown_table(table: pd.DataFrame) -> str:
    """The table in Markdown: numbers with two digits and aligned to the right, missing ones empty."""
    return tabulate(
        [[_cell(value) for value in row] for row in table.itertuples(index=False)],
        headers=[str(column) for column in table.columns],
        tablefmt="pipe",
        disable_numparse=True,  # a task or a hash that looks like a number is still a text
        colalign=["right" if pd.api.types.is_numeric_dtype(table[column]) else "left" for column in table.columns],
    )


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.2f}"
    return str(value)
