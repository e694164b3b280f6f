"""What differs between the scores of two runs: each difference with a paired bootstrap interval, and of accuracies with
McNemar's test."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from twin_merging.reporting.runs.kept import Run
from twin_merging.reporting.runs.paired import (
    Cell,
    Resampled,
    average_ends,
    difference_ends,
    resampled_scores,
    rows_of_cell,
    same_rows,
)
from twin_merging.reporting.runs.rows import CORRECT, KEPT
from twin_merging.reporting.runs.scores import (
    ABSOLUTE,
    AVERAGE,
    EXPERTS,
    NORMALISED,
    averages,
    entry_of,
    own_scores,
    tasks_of,
)


def score_changes(one: Run, two: Run, threads: int = 1) -> dict[str, Any]:
    """`averages` and `tasks`: what differs in the scores of models and tasks that both runs have. `unpaired`: tasks
    whose rows or metrics are not the same, so that there is no interval. `added`, `removed`: models of one run only."""
    old, new = own_scores(one), own_scores(two)
    cells = [(model, task) for model in old if model in new for task in old[model] if task in new[model]]
    changed = [cell for cell in cells if _is_changed(one, two, cell)]
    touched = [cell for cell in cells if cell in changed or (EXPERTS, cell[1]) in changed]
    paired = [task for task in one["tasks"] if task in two["tasks"] and same_rows(one, two, task)]
    resampled = resampled_scores(one, two, [cell for cell in touched if cell[1] in paired], threads)
    normalised = [model for model, task in touched if model != EXPERTS and task in tasks_of(two, model, NORMALISED)]
    return {
        "averages": [
            *_averages(one, two, NORMALISED, normalised, resampled),
            *_averages(one, two, ABSOLUTE, [model for model, _ in changed], resampled),
        ],
        "tasks": [_task(one, two, cell, old[cell[0]], new[cell[0]], resampled) for cell in changed],
        "unpaired": [task for task in one["tasks"] if task in two["tasks"] and task not in paired],
        "added": [model for model in new if model not in old],
        "removed": [model for model in old if model not in new],
    }


def _is_changed(one: Run, two: Run, cell: Cell) -> bool:
    sides = [entry_of(run, *cell) for run in (one, two)]
    return any(sides[0][part][cell[1]] != sides[1][part][cell[1]] for part in ("scores", "rows"))


def _task(
    one: Run, two: Run, cell: Cell, old: dict[str, float], new: dict[str, float], resampled: Resampled
) -> dict[str, Any]:
    """A model's score on a task in both runs; of an accuracy also the rows that became right and wrong."""
    model, task = cell
    low, high = difference_ends(resampled, cell) if cell in resampled else (None, None)
    line = {"model": model, "task": task, "metric": two["tasks"][task]["metric"], "old": old[task], "new": new[task],
            "difference": new[task] - old[task], "low": low, "high": high}  # fmt: skip
    if cell in resampled and KEPT[line["metric"]] == CORRECT:
        before, after = (rows_of_cell(run, cell) for run in (one, two))
        gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
        line |= {"gained": gained, "lost": lost, "p": mcnemar(gained, lost)}
    return line


def mcnemar(gained: int, lost: int) -> float:
    """The exact two-sided p-value of McNemar's test: how likely so uneven a split of the rows that changed is, if each
    were as likely to become right as wrong. Source: McNemar 1947; the exact form by the binomial distribution."""
    count, least = gained + lost, min(gained, lost)
    ways = sum(math.comb(count, below) for below in range(least + 1))
    return min(1.0, 2 * ways / 2**count)


def _averages(one: Run, two: Run, scale: str, models: Iterable[str], resampled: Resampled) -> Iterator[dict[str, Any]]:
    """The averages of models in both runs, each model once."""
    before, after = averages(one, scale), averages(two, scale)
    for model in dict.fromkeys(models):
        old, new = before[model], after[model]
        low, high = average_ends(one, two, model, scale, resampled)
        yield {"scale": scale, "model": model, "task": AVERAGE, "old": old, "new": new,
               "difference": None if old is None or new is None else new - old, "low": low, "high": high}  # fmt: skip
