"""The scores that a run keeps, in percent, and their averages: as the suite's tables have them."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from twin_merging.reporting.runs.kept import Run

AVERAGE, EXPERTS = "avg", "experts"
NORMALISED, ABSOLUTE = "normalised", "absolute"


def entry_of(run: Run, model: str, task: str) -> Mapping[str, Any]:
    """What a run keeps of a model; of the row `experts` what it keeps of the task's expert."""
    found: Mapping[str, Any] = run["models"][f"expert-{task}" if model == EXPERTS else model]
    return found


def own_scores(run: Run) -> dict[str, dict[str, float]]:
    """Absolute scores by model and task, in the tables' order; the row `experts` is each task's expert."""
    rows = [*(model for model in run["models"] if not model.startswith("expert-")), EXPERTS]
    return {row: _scores(run, row) for row in rows}


def _scores(run: Run, row: str) -> dict[str, float]:
    known = [task for task in run["tasks"] if f"expert-{task}" in run["models"]]
    entries = {task: entry_of(run, row, task)["scores"] for task in known}
    return {task: 100 * scores[task] for task, scores in entries.items() if task in scores}


def on_scale(run: Run, scale: str) -> dict[str, dict[str, float]]:
    """Scores by model and task on a scale. Normalised, a task has none where its expert scores 0 or less, and a model
    has none of tasks that it has not merged."""
    scores = own_scores(run)
    if scale == ABSOLUTE:
        return scores
    experts = scores[EXPERTS]
    return {row: {task: 100 * of_row[task] / experts[task] for task in tasks_of(run, row, scale)}
            for row, of_row in scores.items()}  # fmt: skip


def tasks_of(run: Run, model: str, scale: str) -> list[str]:
    """The tasks that a model's average is over."""
    left_out = [] if model == EXPERTS else run["models"][model].get("left_out", [])
    experts = _scores(run, EXPERTS)
    return [task for task in _scores(run, model) if task not in left_out and (scale == ABSOLUTE or experts[task] > 0)]


def averages(run: Run, scale: str) -> dict[str, float | None]:
    """Each model's mean over its tasks; None where it has none."""
    scores = on_scale(run, scale)
    found = {model: [of_model[task] for task in tasks_of(run, model, scale)] for model, of_model in scores.items()}
    return {model: fmean(values) if values else None for model, values in found.items()}
