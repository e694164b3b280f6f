"""What differs between the scores of two runs: each with a paired bootstrap interval, accuracies with McNemar's test.

Test rows are paired where both runs have the same rows of a task, in the same order. The resamples are those of
`twin_merging.scoring.resampling`. An expert's score is resampled with the method's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from statistics import fmean
from typing import Any

import numpy as np

from twin_merging.reporting.runs.kept import Run
from twin_merging.reporting.runs.rows import CORRECT, KEPT, unpack
from twin_merging.scoring.intervals import interval
from twin_merging.scoring.resampling import row_counts
from twin_merging.scoring.weighted import Floats, Weighted, weighted_metric

AVERAGE, EXPERTS = "avg", "experts"
NORMALISED, ABSOLUTE = "normalised", "absolute"
SCALES = (NORMALISED, ABSOLUTE)
Cell = tuple[str, str]  # a model and a task
Resampled = Mapping[Cell, tuple[Floats, Floats]]  # in the first run and in the second, in percent


def own_scores(run: Run) -> dict[str, dict[str, float]]:
    """Absolute scores in percent by model and task, in the tables' order; the row `experts` is each task's expert."""
    tasks = list(run["tasks"])
    found = {
        model: {task: 100 * entry["scores"][task] for task in tasks if task in entry["scores"]}
        for model, entry in run["models"].items()
        if not model.startswith("expert-")
    }
    found[EXPERTS] = {task: 100 * run["models"][f"expert-{task}"]["scores"][task]
                      for task in tasks if f"expert-{task}" in run["models"]}  # fmt: skip
    return found


def averages(run: Run) -> dict[str, dict[str, float | None]]:
    """By scale and model, the mean over the tasks that have a score: where an expert's score is 0 or less, its task has
    no normalised scores."""
    scores = own_scores(run)
    experts = scores[EXPERTS]
    normalised = {
        model: [100 * row[task] / experts[task] for task in row if experts.get(task, 0.0) > 0]
        for model, row in scores.items()
    }
    absolute = {model: list(row.values()) for model, row in scores.items()}
    return {scale: {model: fmean(row) if row else None for model, row in rows.items()}
            for scale, rows in ((NORMALISED, normalised), (ABSOLUTE, absolute))}  # fmt: skip


def score_differences(one: Run, two: Run, threads: int = 1) -> dict[str, Any]:
    """`averages` and `tasks`: what differs in the scores of models and tasks that both runs have. `unpaired`: tasks
    whose rows or metrics are not the same, so that there is no interval. `added`, `removed`: models of one run only."""
    old, new = own_scores(one), own_scores(two)
    models = [model for model in old if model in new]
    tasks = [task for task in one["tasks"] if task in two["tasks"]]
    paired = [task for task in tasks if _same_rows(one, two, task)]
    changed = [(model, task) for task in tasks for model in models if _is_changed(one, two, model, task)]
    other_expert = {task for model, task in changed if model == EXPERTS}  # then every model's normalised score changes
    needed = [*changed, *((model, task) for task in other_expert for model in models)]
    resampled = _resampled(one, two, [cell for cell in needed if cell[1] in paired], threads)
    return {
        "averages": [line for scale in SCALES for line in _averages(one, two, scale, changed, resampled, set(paired))],
        "tasks": [_cell(one, two, cell, (old, new), resampled.get(cell)) for cell in _in_order(changed, models)],
        "unpaired": [task for task in tasks if task not in paired],
        "added": [model for model in new if model not in old],
        "removed": [model for model in old if model not in new],
    }


def _same_rows(one: Run, two: Run, task: str) -> bool:
    return all(one["tasks"][task][key] == two["tasks"][task][key] for key in ("metric", "rows", "digest"))


def _entry(run: Run, cell: Cell) -> Mapping[str, Any]:
    model, task = cell
    return run["models"][f"expert-{task}" if model == EXPERTS else model]


def _is_changed(one: Run, two: Run, model: str, task: str) -> bool:
    sides = [_entry(run, (model, task)) for run in (one, two)]
    return any(sides[0][part].get(task) != sides[1][part].get(task) for part in ("scores", "rows"))


def _in_order(cells: Iterable[Cell], models: list[str]) -> list[Cell]:
    return sorted(cells, key=lambda cell: models.index(cell[0]))


def _resampled(one: Run, two: Run, changed: Iterable[Cell], threads: int) -> dict[Cell, tuple[Floats, Floats]]:
    """Resamples of the scores of cells and of the experts of their tasks, in both runs."""
    of_tasks: dict[str, list[str]] = {}
    for model, task in changed:
        of_tasks.setdefault(task, [EXPERTS]).append(model)
    found: dict[Cell, tuple[Floats, Floats]] = {}
    for task, models in of_tasks.items():
        names = list(dict.fromkeys(models))
        rows = np.array([unpack(_entry(run, (model, task))["rows"][task]) for run in (one, two) for model in names])
        scores = 100 * _task_resamples(one["tasks"][task], task, rows, threads)
        found |= {(model, task): (scores[at], scores[len(names) + at]) for at, model in enumerate(names)}
    return found


def _task_resamples(task: Mapping[str, Any], name: str, rows: np.ndarray, threads: int) -> Floats:
    """Scores (models, resamples) from what is kept of the models' rows (models, n)."""
    different, back = np.unique(rows, axis=0, return_inverse=True)  # a model that did not change is scored once
    score = _mean(different) if "kept" not in task else weighted_metric(task["metric"], different, unpack(task["kept"]))
    counts, parts = row_counts(name, task["rows"]), []
    with ThreadPoolExecutor(threads) as pool:  # a few blocks at a time, which is all that memory has to hold
        while blocks := list(islice(counts, 2 * threads)):
            parts += pool.map(score, blocks)
    return np.concatenate(parts, axis=1)[back.reshape(-1)]


def _mean(values: np.ndarray) -> Weighted:
    """The mean of values (models, n) of the rows, as a function of how often each row counts."""
    values = values.astype(float)
    return lambda counts: values @ counts / values.shape[1]


def _cell(
    one: Run, two: Run, cell: Cell, scores: tuple[Mapping[str, Any], Mapping[str, Any]], resampled: Any
) -> dict[str, Any]:
    model, task = cell
    old, new = (side[model].get(task) for side in scores)
    line = {"model": model, "task": task, "metric": two["tasks"][task]["metric"], "old": old, "new": new,
            "difference": None if old is None or new is None else new - old}  # fmt: skip
    if resampled is None:
        return {**line, "low": None, "high": None}
    low, high = interval(resampled[1] - resampled[0])
    line |= {"low": _number(low), "high": _number(high)}
    if KEPT[line["metric"]] == CORRECT:
        line |= _mcnemar(*(unpack(_entry(run, cell)["rows"][task]) for run in (one, two)))
    return line


def _number(value: float) -> float | None:
    """None for NaN, which JSON has no word for."""
    return None if math.isnan(value) else value


def _mcnemar(old: np.ndarray, new: np.ndarray) -> dict[str, Any]:
    """Rows that became right and wrong, and McNemar's exact test of them."""
    gained, lost = int((new & ~old).sum()), int((old & ~new).sum())
    return {"gained": gained, "lost": lost, "p": mcnemar(gained, lost)}


def mcnemar(gained: int, lost: int) -> float:
    """The exact two-sided p-value of McNemar's test: how likely so uneven a split of the rows that changed is, if each
    were as likely to become right as wrong. Source: McNemar 1947; the exact form by the binomial distribution."""
    count, least = gained + lost, min(gained, lost)
    ways = sum(math.comb(count, below) for below in range(least + 1))
    return min(1.0, 2 * ways / 2**count)


def _averages(
    one: Run, two: Run, scale: str, changed: Iterable[Cell], resampled: Resampled, paired: set[str]
) -> list[dict[str, Any]]:
    """The averages that differ, or rest on rows that do. There is an interval where every task's rows are paired."""
    old, new = averages(one)[scale], averages(two)[scale]
    touched = dict.fromkeys(model for model, _ in changed)
    if scale == NORMALISED and EXPERTS in touched:
        touched = dict.fromkeys(old)
    same_tasks = list(one["tasks"]) == list(two["tasks"]) and paired == set(one["tasks"])
    lines = []
    for model in old:
        if model not in touched or model not in new or (model == EXPERTS and scale == NORMALISED):
            continue
        first, second = old[model], new[model]
        line = {"scale": scale, "model": model, "task": AVERAGE, "old": first, "new": second,
                "difference": None if first is None or second is None else second - first}  # fmt: skip
        ends = _average_interval(one, two, model, scale, resampled) if same_tasks else (math.nan, math.nan)
        lines.append({**line, "low": _number(ends[0]), "high": _number(ends[1])})
    return lines


def _average_interval(one: Run, two: Run, model: str, scale: str, resampled: Resampled) -> tuple[float, float]:
    """Of the difference of two averages. A task in which nothing changed adds nothing to it, but counts in the mean."""
    counted = [_counted(run, scale) for run in (one, two)]
    if counted[0] != counted[1] or not counted[0]:
        return math.nan, math.nan
    differences = []
    for task in counted[0]:
        if (sides := resampled.get((model, task))) is not None:
            experts = resampled[EXPERTS, task]
            old, new = (_on_scale(scale, *pair) for pair in zip(sides, experts, strict=True))
            differences.append(new - old)
    return interval(np.sum(differences, axis=0) / len(counted[0])) if differences else (math.nan, math.nan)


def _counted(run: Run, scale: str) -> list[str]:
    """The tasks that an average is over."""
    scores = own_scores(run)[EXPERTS]
    return [task for task in run["tasks"] if scale == ABSOLUTE or scores[task] > 0]


def _on_scale(scale: str, scores: Floats, experts: Floats) -> Floats:
    """Normalised, a resample in which the expert scores 0 or less has no score (NaN)."""
    if scale == ABSOLUTE:
        return scores
    return 100 * np.divide(scores, experts, out=np.full_like(scores, np.nan), where=experts > 0)
