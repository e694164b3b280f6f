"""What figures read of scores: intervals.csv, and the order in which models stand in a figure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from twin_merging.reporting.interval_lines import read_intervals
from twin_merging.reporting.normalisation import AVERAGE, EXPERTS

ORDER = ("pretrained", "static", "masked", "weighed", "dynamic", "experts")
AXES = {"normalised": "score, % of the expert's", "absolute": "score, % (correlations × 100)"}


@dataclass(frozen=True)
class Interval:
    """A score in percent with its 95 % interval; NaN where there is none. mark: `best`, `second` or empty."""

    value: float
    low: float
    high: float
    mark: str = ""

    @property
    def is_known(self) -> bool:
        return not math.isnan(self.value)

    @property
    def sides(self) -> tuple[float, float]:
        """How far the interval reaches below and above the value: 0 where it is not known."""
        below, above = (
            0.0 if math.isnan(side) else max(0.0, side) for side in (self.value - self.low, self.high - self.value)
        )
        return below, above

    @property
    def whiskers(self) -> list[list[float]]:
        """The sides as matplotlib takes them for one point."""
        return [[side] for side in self.sides]


NONE = Interval(math.nan, math.nan, math.nan)


class Scores:
    """The scores of a suite's models on one scale: the normalised one, or the absolute one where no task has another.

    kinds: each model's kind, in the order of the suite.
    """

    def __init__(self, path: Path, kinds: Mapping[str, str]):
        table = read_intervals(path)
        known = table[table["value"].notna()]
        self.scale = "normalised" if (known["scale"] == "normalised").any() else "absolute"
        own = table[table["scale"] == self.scale]
        columns = (own[name] for name in ("model", "task", "value", "low", "high", "mark"))
        self._found = {
            (model, task): Interval(float(value), float(low), float(high), mark)
            for model, task, value, low, high, mark in zip(*columns, strict=True)
        }
        self.kinds = {**kinds, EXPERTS: "experts"}
        self.models = [model for model in self.kinds if self.of(model).is_known]

    @property
    def axis(self) -> str:
        """What an axis of scores is called, with its unit."""
        return AXES[self.scale]

    def of(self, model: str, task: str = AVERAGE) -> Interval:
        return self._found.get((model, task), NONE)

    def known(self, tasks: Iterable[str]) -> list[str]:
        """The tasks for which some model has a score."""
        return [task for task in tasks if any(self.of(model, task).is_known for model in self.models)]

    def grouped(self) -> list[str]:
        """The models by kind, and within a kind by their average, the largest last."""
        return sorted(self.models, key=lambda model: (ORDER.index(self.kinds[model]), self.of(model).value))

    def best(self, kind: str, count: int) -> list[str]:
        """The models of a kind with the largest averages, the largest first."""
        own = [model for model in self.models if self.kinds[model] == kind]
        return sorted(own, key=lambda model: -self.of(model).value)[:count]


def left_out(tasks: Sequence[str], known: Sequence[str]) -> str:
    """A sentence about tasks that have no score; empty where all have one."""
    missing = [task for task in tasks if task not in known]
    return f" No normalised score: {', '.join(missing)}." if missing else ""
