"""Resamples of the scores of two runs: the same rows are drawn in both, so that their differences are paired.

The rows that are drawn are those of `twin_merging.scoring.resampling`. An expert's score is resampled with a method's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import numpy as np

from twin_merging.reporting.runs.kept import Run
from twin_merging.reporting.runs.rows import unpack
from twin_merging.reporting.runs.scores import ABSOLUTE, EXPERTS, entry_of, tasks_of
from twin_merging.scoring.intervals import interval
from twin_merging.scoring.resampling import row_counts
from twin_merging.scoring.weighted import Floats, Weighted, weighted_metric

Cell = tuple[str, str]  # a model and a task
Resampled = Mapping[Cell, tuple[Floats, Floats]]  # in the first run and in the second, in percent
Ends = tuple[float | None, float | None]


def same_rows(one: Run, two: Run, task: str) -> bool:
    """Whether two runs have answered the same rows of a task, and scored them by the same metric."""
    return all(one["tasks"][task][key] == two["tasks"][task][key] for key in ("metric", "rows", "digest"))


def resampled_scores(one: Run, two: Run, cells: Iterable[Cell], threads: int = 1) -> Resampled:
    """Resamples of the scores of cells, and of the experts of their tasks. threads: how many; they change no number."""
    of_tasks: dict[str, dict[str, None]] = {}
    for model, task in cells:
        of_tasks.setdefault(task, {EXPERTS: None})[model] = None
    found: dict[Cell, tuple[Floats, Floats]] = {}
    for task, models in of_tasks.items():
        rows = np.array([rows_of_cell(run, (model, task)) for run in (one, two) for model in models])
        scores = 100 * _of_task(one["tasks"][task], task, rows, threads)
        found |= {(model, task): (scores[at], scores[len(models) + at]) for at, model in enumerate(models)}
    return found


def rows_of_cell(run: Run, cell: Cell) -> np.ndarray:
    """What is kept of a model's rows of a task."""
    return unpack(entry_of(run, *cell)["rows"][cell[1]])


def _of_task(task: Mapping[str, Any], name: str, rows: np.ndarray, threads: int) -> Floats:
    """Scores (models, resamples) from what is kept of the models' rows (models, n)."""
    different, back = np.unique(rows, axis=0, return_inverse=True)  # a model that did not change is scored once
    if "kept" in task:
        score = weighted_metric(task["metric"], different.tolist(), unpack(task["kept"]).tolist())
    else:
        score = _mean(different)
    counts, parts = row_counts(name, task["rows"]), list[Floats]()
    with ThreadPoolExecutor(threads) as pool:  # a few blocks at a time, which is all that memory has to hold
        while blocks := list(islice(counts, 2 * threads)):
            parts += pool.map(score, blocks)
    return np.concatenate(parts, axis=1)[back.reshape(-1)]


def _mean(values: np.ndarray) -> Weighted:
    """The mean of values (models, n) of the rows, as a function of how often each row counts."""
    values = values.astype(float)
    return lambda counts: values @ counts / values.shape[1]


def difference_ends(resampled: Resampled, cell: Cell) -> Ends:
    """The interval of the difference of a cell's two scores."""
    old, new = resampled[cell]
    return _ends(new - old)


def average_ends(one: Run, two: Run, model: str, scale: str, resampled: Resampled) -> Ends:
    """The interval of the difference of a model's two averages; none where they are not over the same rows.

    A task of which nothing is resampled is one in which nothing changed: it adds nothing, but counts in the mean.
    """
    tasks = tasks_of(one, model, scale)
    same = tasks == tasks_of(two, model, scale) and all(same_rows(one, two, task) for task in tasks)
    changed = [task for task in tasks if (model, task) in resampled]
    if not same or not changed:
        return None, None
    parts = [_on_scale(scale, resampled[model, task], resampled[EXPERTS, task]) for task in changed]
    return _ends(np.sum([new - old for old, new in parts], axis=0) / len(tasks))


def _on_scale(scale: str, scores: tuple[Floats, Floats], experts: tuple[Floats, Floats]) -> list[Floats]:
    """Normalised, a resample in which the expert scores 0 or less has no score (NaN)."""
    if scale == ABSOLUTE:
        return list(scores)
    pairs = zip(scores, experts, strict=True)
    return [100 * np.divide(own, its, out=np.full_like(own, np.nan), where=its > 0) for own, its in pairs]


def _ends(differences: Floats) -> Ends:
    """None for an end that is no number, which JSON has no word for."""
    low, high = interval(differences)
    return (None, None) if math.isnan(low) else (low, high)
