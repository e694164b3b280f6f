"""All that differs between two runs, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twin_merging.errors import UserError
from twin_merging.reporting.runs.differences import (
    code_changes,
    cost_changes,
    option_changes,
    row_changes,
    source_changes,
    version_changes,
)
from twin_merging.reporting.runs.kept import Run
from twin_merging.reporting.runs.score_changes import score_changes
from twin_merging.reporting.runs.scores import AVERAGE, averages, on_scale


def difference(one: Run, two: Run, threads: int = 1) -> dict[str, Any]:
    """What differs in the second run from the first. threads: how many resample; they change no number.

    `old`, `new`: which runs; `options`, `code`, `versions`, `sources`, `rows` as in `differences`; `scores` as in
    `score_changes`; `cost`; `same`: whether nothing but times differs.
    """
    if "table" in one or "table" in two:
        return _of_tables(one, two)
    found: dict[str, Any] = {
        "options": option_changes(one, two),
        "code": code_changes(one, two),
        "versions": version_changes(one, two),
        "sources": source_changes(one, two),
        "rows": row_changes(one, two),
        "scores": score_changes(one, two, threads),
    }
    scores = found["scores"]
    lists = [part for name, part in found.items() if name != "scores"]
    same = not any([*lists, scores["tasks"], scores["averages"], scores["added"], scores["removed"]])
    return {"old": about(one), "new": about(two), "same": same, **found, "cost": cost_changes(one, two)}


def about(run: Run) -> dict[str, Any]:
    """Which run it is; of a table its name alone."""
    if "table" in run:
        return {"table": run["table"]}
    return {"suite": run["suite"], "hash": run["hash"], "finished": run["finished"], **run["git"]}


def _of_tables(one: Run, two: Run) -> dict[str, Any]:
    """Of a table only the scores are known: no rows, so no intervals, and nothing of what they were made from."""
    scales = {run["scale"] for run in (one, two) if "table" in run}
    if len(scales) > 1:
        names = f"{one['table']} and {two['table']}"
        raise UserError(f"{names}: one has normalised and one has absolute scores; name two alike")
    (scale,) = scales
    old, new = (_table_of(run, scale) for run in (one, two))
    lines = [
        {"scale": scale, "model": model, "task": task, "old": row[task], "new": new[model][task],
         "difference": _minus(new[model][task], row[task]), "low": None, "high": None}
        for model, row in old.items() if model in new
        for task in row if task in new[model] and not _equal(row[task], new[model][task])
    ]  # fmt: skip
    scores = {
        "averages": [line for line in lines if line["task"] == AVERAGE],
        "tasks": [line for line in lines if line["task"] != AVERAGE],
        "unpaired": [],
        "added": [model for model in new if model not in old],
        "removed": [model for model in old if model not in new],
    }
    return {
        "old": about(one), "new": about(two), "same": not any(scores.values()), "scale": scale, "scores": scores,
    }  # fmt: skip


def _table_of(run: Run, scale: str) -> Mapping[str, Mapping[str, float | None]]:
    """A run's scores on a scale as its table has them, `avg` among the tasks."""
    if "table" in run:
        return run["scores"]
    means = averages(run, scale)
    return {model: {**row, AVERAGE: means[model]} for model, row in on_scale(run, scale).items()}


def _minus(new: float | None, old: float | None) -> float | None:
    return None if old is None or new is None else new - old


def _equal(one: float | None, other: float | None) -> bool:
    """Tables have four digits."""
    if one is None or other is None:
        return one is other
    return abs(one - other) < 1e-4
