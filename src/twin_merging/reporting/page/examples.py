"""Test rows to look at: what a model was asked, what it answered, what is right, and how its router weighed the tasks.

Which rows are shown depends on the suite's seed, the task and the row's place alone, so two models are shown on the
same rows where both are right, or both wrong.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin_merging.checkpoints.label_names import LABEL_NAMES, read_names
from twin_merging.io.validation import validate
from twin_merging.scoring.rows import BY_DEGREES, row_grades
from twin_merging.tasks.families import family_named
from twin_merging.tasks.rows import read_rows

if TYPE_CHECKING:
    import pandas as pd

EACH = 6  # right and wrong rows of a model and task
DRAWN = 40  # rows that are graded where a row is better or worse
LONGEST = 4000  # characters of a text
LEAST = 0.01  # a weight that is shown by itself


@dataclass
class _OfTask:
    """The test rows of a task as they are shown, filled as models ask for them."""

    view: Any
    metric: str
    rows: pd.DataFrame
    names: Sequence[str] | None
    order: list[int]
    seen: dict[int, dict[str, Any]] = field(default_factory=dict)

    @property
    def by_degrees(self) -> bool:
        return self.metric in BY_DEGREES

    def said(self, value: Any) -> str:
        return cut(self.view.said(value, self.names))


def examples(
    *,
    family: str,
    tasks: Mapping[str, Mapping[str, Any]],
    data: Mapping[str, Path],
    predictions: Mapping[str, Path],
    weighed: Mapping[str, Sequence[str]],
    seed: int,
    limit: int | None = None,
    sample: str | None = None,
) -> dict[str, Any]:
    """Rows by task, and for each task and model which of them are shown with what the model made of them.

    tasks: of each `metric`, and `answered`, what the task's answers are made by; data: its folder. predictions: of each
    model its file; weighed: of each merged model the tasks that a router weighs, in its order. limit, sample: which
    test rows were answered, as for stage predict.
    """
    view = family_named(family).answers
    found = {
        task: _OfTask(
            view=validate(view, told["answered"]),
            metric=told["metric"],
            rows=(rows := read_rows(data[task] / "test.parquet", limit, sample)),
            names=read_names(path for path in [data[task] / LABEL_NAMES] if path.is_file()),
            order=drawn(len(rows), f"{seed}/{task}"),
        )
        for task, told in tasks.items()
    }
    shown: dict[str, dict[str, Any]] = {task: {} for task in tasks}
    for model, file in predictions.items():
        for task, lines in _by_task(file).items():
            own = model.removeprefix("expert-") == task
            if task in found and (own or not model.startswith("expert-")):
                shown[task]["expert" if own else model] = _of_model(found[task], lines, weighed.get(model, ()))
    return {
        task: {"metric": one.metric, "byDegrees": one.by_degrees, "rows": one.seen, "models": shown[task]}
        for task, one in found.items()
    }


def drawn(count: int, salt: str) -> list[int]:
    """All places of that many rows in an order that looks drawn and is always the same."""
    return sorted(range(count), key=lambda place: hashlib.sha256(f"{salt}/{place}".encode()).digest())


def cut(text: str) -> str:
    """A text that is not longer than what a page should hold."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} … ({len(text):,} characters in all)"


def _by_task(file: Path) -> dict[str, list[dict[Any, Any]]]:
    import pandas as pd

    table = pd.read_parquet(file, columns=["task", "row", "output", "reference", "weights"])
    return {str(task): lines.to_dict("records") for task, lines in table.groupby("task", sort=False)}


def _of_model(task: _OfTask, lines: Sequence[Mapping[str, Any]], weighed: Sequence[str]) -> dict[str, Any]:
    """The rows of one model that are shown: good ones first, then bad ones, each in the order in which it was drawn."""
    by_row = {int(line["row"]): line for line in lines}
    order = [row for row in task.order if row in by_row]
    pool = order[:DRAWN] if task.by_degrees else order
    chosen = [by_row[row] for row in pool]
    outputs, references = ([_plain(line[side]) for line in chosen] for side in ("output", "reference"))
    grades = row_grades(task.metric, outputs, references)
    graded = dict(zip(pool, grades, strict=True))
    good, bad = _halves(pool, graded) if task.by_degrees else _sides(pool, graded)
    return {
        "right": None if task.by_degrees else sum(grade == 1 for grade in grades),
        "of": len(pool),
        "good": [_example(task, by_row[row], weighed) for row in good],
        "bad": [_example(task, by_row[row], weighed) for row in bad],
    }


def _sides(pool: Sequence[int], grades: Mapping[int, float]) -> tuple[list[int], list[int]]:
    right = [row for row in pool if grades[row] == 1]
    wrong = [row for row in pool if grades[row] != 1]
    return right[:EACH], wrong[:EACH]


def _halves(pool: Sequence[int], grades: Mapping[int, float]) -> tuple[list[int], list[int]]:
    """The best and the worst of the rows; of few rows, none twice."""
    ranked = sorted(pool, key=lambda row: -grades[row])
    each = min(EACH, len(ranked) // 2)
    return ranked[:each], ranked[len(ranked) - each :][::-1]


def _example(task: _OfTask, line: Mapping[str, Any], weighed: Sequence[str]) -> dict[str, Any]:
    row = int(line["row"])
    if row not in task.seen:
        (inputs,) = task.view.shown(task.rows.iloc[[row]])
        texts = [{"name": name, "text": cut(text)} for name, text in inputs]
        task.seen[row] = {"inputs": texts, "reference": task.said(_plain(line["reference"]))}
    weights = _plain(line["weights"])
    found: dict[str, Any] = {"row": row, "output": task.said(_plain(line["output"]))}
    return {**found, "weights": largest(weights, weighed)} if isinstance(weights, list) else found


def largest(weights: Sequence[float], tasks: Sequence[str]) -> list[tuple[str, float]]:
    """The weights of at least a hundredth, the largest first, and the sum of the others."""
    named = sorted(zip(tasks, map(float, weights), strict=True), key=lambda pair: -pair[1])
    shown = [(name, round(weight, 3)) for name, weight in named if weight >= LEAST]
    others = [weight for _, weight in named if weight < LEAST]
    name = "1 other" if len(others) == 1 else f"{len(others)} others"
    return [*shown, (name, round(sum(others), 3))] if others else shown


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value
