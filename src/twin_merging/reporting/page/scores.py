"""The headline tables of the page: scores on both scales, each with its interval and its mark."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twin_merging.reporting.normalisation import AVERAGE
from twin_merging.reporting.page.words import Line, digits, number, read_lines, signed

ABSOLUTE, NORMALISED = "absolute", "normalised"
KNOWN = ("model", "protocol", "true_task")
# The axis of the whiskers ends here, whatever an expert that scores next to nothing makes of a normalised score.
LEAST, MOST = -50.0, 150.0

Intervals = Mapping[tuple[str, str, str], Line]


@dataclass(frozen=True)
class Axis:
    """The common axis of a table's whiskers: from `low` to `high` in percent, drawn from 0 to 100."""

    low: float
    high: float

    def at(self, value: float) -> float:
        place = 2 + 96 * (value - self.low) / (self.high - self.low)
        return round(min(99.0, max(1.0, place)), 2)


def read_intervals(file: Path) -> Intervals:
    """Lines of a suite's intervals by scale, model and task."""
    return {(line["scale"], line["model"], line["task"]): line for line in read_lines(file)}


def score_table(
    file: Path, scale: str, intervals: Intervals, models: Mapping[str, Mapping[str, Any]], tasks: Mapping[str, Any]
) -> dict[str, Any]:
    """A table of scores as the page shows it: columns, rows of cells, and the axis of its whiskers.

    file: a table of the suite as stage tabulate writes it. models: what the settings say of each; tasks: of each task.
    """
    lines = read_lines(file)
    columns = [AVERAGE, *(name for name in (lines[0] if lines else {}) if name not in (*KNOWN, AVERAGE))]
    axis = _axis([number(line[name]) for line in lines for name in columns], _bounds(intervals, scale))
    marks = {"zero": axis.at(0) if axis.low < 0 else None, "expert": axis.at(100) if scale == NORMALISED else None}
    return {
        "scale": scale,
        "axis": {"low": digits(axis.low, 0), "high": digits(axis.high, 0), **marks},
        "columns": [{"name": name, "metric": (tasks.get(name) or {}).get("metric", "")} for name in columns],
        "rows": [
            {
                "model": line["model"],
                "kind": models.get(line["model"], {}).get("kind", "not merged"),
                "protocol": line["protocol"],
                "told": line["true_task"].replace("+", ", "),
                "some": _some(models.get(line["model"], {}), tasks),
                "cells": [_cell(line[name], intervals.get((scale, line["model"], name)), axis) for name in columns],
            }
            for line in lines
        ],
        "has_intervals": any(key[0] == scale for key in intervals),
        "left_out": [name for name in columns if name != AVERAGE and all(not line[name] for line in lines)],
    }


def _some(model: Mapping[str, Any], tasks: Mapping[str, Any]) -> int:
    """How many tasks a model is about, where these are not all; else 0."""
    merged = model.get("merged", tasks)
    return 0 if len(merged) == len(tasks) else len(merged)


def cross_table(file: Path) -> dict[str, Any]:
    """Every expert on every task, each score with a shade of 0 to 10 for 0 to 100."""
    lines = read_lines(file)
    columns = [name for name in (lines[0] if lines else {}) if name != "expert"]
    return {
        "columns": columns,
        "rows": [
            {"expert": line["expert"], "cells": [
                {"text": digits(number(line[name])), "own": name == line["expert"],
                 "shade": max(0, min(10, round((number(line[name]) or 0) / 10)))}
                for name in columns
            ]}
            for line in lines
        ],
    }  # fmt: skip


def unseen_table(file: Path) -> dict[str, Any]:
    """Scores of tasks that models answer without having merged them; no rows where there are none such."""
    lines = read_lines(file)
    columns = [name for name in (lines[0] if lines else {}) if name not in (*KNOWN, "left_out")]
    return {
        "columns": columns,
        "rows": [
            {"model": line["model"], "left_out": line["left_out"].replace("+", ", "), "protocol": line["protocol"],
             "told": line["true_task"].replace("+", ", "),
             "cells": [{"text": digits(value := number(line[name])), "value": value} for name in columns]}
            for line in lines
        ],
    }  # fmt: skip


def _bounds(intervals: Intervals, scale: str) -> list[float | None]:
    return [number(line[end]) for key, line in intervals.items() if key[0] == scale for end in ("low", "high")]


def _axis(*values: Sequence[float | None]) -> Axis:
    found = [value for some in values for value in some if value is not None]
    return Axis(max(LEAST, min([0.0, *found])), min(MOST, max([100.0, *found])))


def _cell(text: str, interval: Line | None, axis: Axis) -> dict[str, Any]:
    """A score, and of its interval the ends, a sentence, and where they lie on the axis."""
    value = number(text)
    if value is None:
        return {"value": None}
    cell: dict[str, Any] = {"value": value, "text": digits(value), "at": axis.at(value), "mark": "", "interval": ""}
    low, high = (number((interval or {}).get(end)) for end in ("low", "high"))
    if interval is None or low is None or high is None:
        return cell
    return {
        **cell,
        "mark": interval.get("mark", ""),
        "interval": f"{digits(low)} to {digits(high)}",
        "from": axis.at(low),
        "to": axis.at(high),
        "beside": _difference(interval),
    }


def _difference(interval: Line) -> str:
    """What the score is above the best static one."""
    found = [number(interval.get(key)) for key in ("difference", "difference_low", "difference_high")]
    difference, low, high = found
    if difference is None or low is None or high is None or not interval.get("than"):
        return ""
    return f"{signed(difference)} ({signed(low)} to {signed(high)}) than {interval['than']}"


def headline(
    table: Mapping[str, Any], models: Mapping[str, Mapping[str, Any]], told_more: Collection[str]
) -> list[dict[str, str]]:
    """The few averages that the page begins with: the best merged model of each kind, and the base's.

    table: the normalised one. Of equal averages the first counts; left out are models of some of the tasks, and dynamic
    ones that are told the true task's weights.
    """
    found = []
    words = {"dynamic": "best dynamic method", "masked": "best masked method", "static": "best static method"}
    whole = [row for row in table["rows"] if not row["some"]]
    averages = {row["model"]: row["cells"][0] for row in whole if row["cells"][0]["value"] is not None}
    for kind, what in words.items():
        own = [model for model in averages if models.get(model, {}).get("kind") == kind]
        own = [model for model in own if kind != "dynamic" or model not in told_more]
        if own:
            best = max(own, key=lambda model: averages[model]["value"])
            found.append({"what": what, "model": best, **_said(averages[best])})
    if "pretrained" in averages:
        found.append({"what": "the base, not merged", "model": "pretrained", **_said(averages["pretrained"])})
    return found


def _said(cell: Mapping[str, Any]) -> dict[str, str]:
    return {"score": digits(cell["value"]), "interval": cell.get("interval", "")}
