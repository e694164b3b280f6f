"""Rule intervals: an interval for every score of a suite's own rows, for every average, and for the difference of each
to the best static row. Which of the merged rows are best is marked where the intervals say so.

A row's own tasks are those that it has merged; its average is over these. Rows of other tasks are not compared with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from twin_merging.errors import UserError
from twin_merging.io.files import whole_file
from twin_merging.reporting.cells import BEST, SECOND
from twin_merging.reporting.normalisation import (
    ABSOLUTE,
    AVERAGE,
    EXPERTS,
    NORMALISED,
    absolute_scores,
    normalised_scores,
    own_scores,
    with_average,
)
from twin_merging.reporting.subsets import NO_SUBSETS, Subsets, without_left_out
from twin_merging.scoring.bootstrap import RESAMPLES
from twin_merging.scoring.intervals import NONE, interval, is_above
from twin_merging.scoring.resampling import resampled_scores
from twin_merging.scoring.weighted import Floats

COLUMNS = ["scale", "model", "task", "value", "low", "high", "than", "difference", "difference_low",
           "difference_high", "mark"]  # fmt: skip


@dataclass(frozen=True)
class Rows:
    """What rows of a table are compared with which. static: those that may be the best static row; competing: those
    that may be marked as best."""

    static: Sequence[str]
    competing: Sequence[str]


def write_intervals(
    scores: Path,
    predictions: Mapping[str, Path],
    metrics: Mapping[str, str],
    rows: Rows,
    output: Path,
    subsets: Subsets = NO_SUBSETS,
) -> None:
    """Write the table as CSV, in percent. scores: the file of stage score; metrics: each task's, in the suite's order;
    subsets: the models that are about some of the tasks."""
    table = interval_table(pd.read_csv(scores), predictions, metrics, rows, subsets)
    with whole_file(output) as partial:
        table.to_csv(partial, index=False, float_format="%.4f")


def interval_table(
    scores: pd.DataFrame,
    predictions: Mapping[str, Path],
    metrics: Mapping[str, str],
    rows: Rows,
    subsets: Subsets = NO_SUBSETS,
    resamples: int = RESAMPLES,
) -> pd.DataFrame:
    """A line for each scale, row and task that has a score, and for each row's average."""
    absolute = without_left_out(absolute_scores(scores, list(metrics)), subsets)
    values = {ABSOLUTE: with_average(own_scores(absolute)), NORMALISED: normalised_scores(absolute)}
    drawn = resampled_rows(own_scores(absolute), predictions, metrics, resamples)
    lines = []
    for scale, table in values.items():
        found = drawn if scale == ABSOLUTE else normalised(drawn)
        for task in table.columns:
            numbers = {
                model: _of_column(found, model, task, table)
                for model in table.index
                if pd.notna(table.loc[model, task])
            }
            lines += [[scale, *line] for line in _column(task, table, numbers, rows)]
    order = {model: place for place, model in enumerate(values[ABSOLUTE].index)}
    lines.sort(key=lambda line: (line[0] == ABSOLUTE, order[line[1]]))  # tasks stay in their order
    return pd.DataFrame(lines, columns=COLUMNS)


Resampled = dict[str, dict[str, Floats]]  # resampled scores in percent, by task and row


def resampled_rows(
    own: pd.DataFrame, predictions: Mapping[str, Path], metrics: Mapping[str, str], resamples: int = RESAMPLES
) -> Resampled:
    """The resampled scores of the cells of `own`. Its row `experts` is each task's expert on its own task."""
    tables = {model: pd.read_parquet(path, columns=["task", "row", "output", "reference"])
              for model, path in predictions.items()}  # fmt: skip
    found: Resampled = {}
    for task, metric in metrics.items():
        scored = [row for row in own.index if pd.notna(own.loc[row, task])]
        models = {row: f"expert-{task}" if row == EXPERTS else row for row in scored}
        answers = {row: tables[model][tables[model]["task"] == task] for row, model in models.items()}
        first = answers[EXPERTS]
        for row, table in answers.items():
            if table["row"].tolist() != first["row"].tolist():
                raise UserError(
                    f"{predictions[models[row]]}: the rows of task {task} are not those of {models[EXPERTS]}; "
                    "predict again"
                )
        outputs = [table["output"].tolist() for table in answers.values()]
        numbers = 100 * resampled_scores(task, metric, outputs, first["reference"].tolist(), resamples)
        found[task] = dict(zip(answers, numbers, strict=True))
    return found


def normalised(drawn: Resampled) -> Resampled:
    """100 x a row's resampled score / the expert's on the same resample; NaN where the expert's is 0 or less."""
    found: Resampled = {}
    for task, rows in drawn.items():
        expert = np.where(rows[EXPERTS] > 0, rows[EXPERTS], np.nan)
        found[task] = {row: 100 * numbers / expert for row, numbers in rows.items()}
    return found


def _tasks_of(table: Any, model: str) -> list[str]:
    """The tasks that a row has a score of."""
    return [task for task in table.columns if task != AVERAGE and pd.notna(table.loc[model, task])]


def _of_column(drawn: Resampled, model: str, task: str, table: pd.DataFrame) -> Floats:
    """The resamples of a cell. Tasks are independent, so an average is that of the tasks resample by resample."""
    if task != AVERAGE:
        return drawn[task][model]
    return np.mean([drawn[own][model] for own in _tasks_of(table, model)], axis=0)


def _column(task: str, table: Any, drawn: Mapping[str, Floats], rows: Rows) -> list[list[Any]]:
    """The lines of one column of a table. drawn: the resamples of each row that has a score in it."""
    values: dict[str, float] = {model: float(table.loc[model, task]) for model in drawn}
    tasks = {model: _tasks_of(table, model) for model in drawn}
    every = [column for column in table.columns if column != AVERAGE and table[column].notna().any()]
    marks = _marks([model for model in drawn if model in rows.competing and tasks[model] == every], values, drawn)
    lines = []
    for model, value in values.items():
        others = [own for own in rows.static if own in drawn and own != model and tasks[own] == tasks[model]]
        than = max(others, key=values.__getitem__, default="")
        difference, ends = np.nan, NONE
        if than:
            difference, ends = value - values[than], interval(drawn[model] - drawn[than])
        lines.append([model, task, value, *interval(drawn[model]), than, difference, *ends, marks.get(model, "")])
    return lines


def _marks(models: Sequence[str], values: Mapping[str, float], drawn: Mapping[str, Floats]) -> dict[str, str]:
    """The best row, where the interval of its difference to the next one leaves out zero; and then the second, where
    the same holds of it."""
    ranked = sorted(models, key=lambda model: -values[model])  # equal ones stay in the suite's order
    found: dict[str, str] = {}
    for mark, better, worse in zip((BEST, SECOND), ranked, ranked[1:], strict=False):
        if not is_above(drawn[better] - drawn[worse]):
            break
        found[better] = mark
    return found
