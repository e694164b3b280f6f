"""Tables for people: columns of texts and numbers, each number with its interval and mark, whatever they are written
in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from twin_merging.reporting.interval_lines import read_intervals
from twin_merging.reporting.normalisation import AVERAGE

KNOWLEDGE = {"protocol": "protocol", "true_task": "true task"}  # columns, and how they are headed
DIFFERENCE = "difference"
BEST, SECOND = "best", "second"


@dataclass(frozen=True)
class Cell:
    """A number, its interval (NaN where it has none), and its mark (best, second or none). signed: written with + or
    -."""

    value: float
    low: float = np.nan
    high: float = np.nan
    mark: str = ""
    signed: bool = False

    @property
    def number(self) -> str:
        """The number with two digits; empty for one that is missing."""
        return "" if np.isnan(self.value) else f"{self.value:{'+' * self.signed}.2f}"

    @property
    def ends(self) -> tuple[str, str] | None:
        """The interval's ends with one digit. None for a number that has none, or does not vary (an expert's normalised
        score is 100 by definition)."""
        return (f"{self.low:.1f}", f"{self.high:.1f}") if self.low < self.high else None


@dataclass(frozen=True)
class Table:
    """Columns by their heads; each row has a text or a cell for each of them. The first `texts` columns are texts."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    texts: int

    def columns(self, chosen: Sequence[int]) -> Table:
        """The table of some of its columns."""
        rows = [[row[place] for place in chosen] for row in self.rows]
        return Table([self.heads[place] for place in chosen], rows, sum(place < self.texts for place in chosen))


def of_frame(table: pd.DataFrame, texts: int) -> Table:
    """A table of plain numbers behind so many columns of texts."""
    rows: list[list[str | Cell]] = []
    for row in table.itertuples(index=False, name=None):
        rows.append([*map(str, row[:texts]), *(Cell(float(value)) for value in row[texts:])])
    return Table([str(column) for column in table.columns], rows, texts)


class Intervals:
    """The lines of a suite's intervals, by scale, row and task."""

    def __init__(self, lines: pd.DataFrame) -> None:
        self._lines: dict[Any, Any] = {
            (line["scale"], line["model"], line["task"]): line for line in lines.to_dict("records")
        }

    @classmethod
    def read(cls, file: Path) -> Intervals:
        return cls(read_intervals(file))

    def cell(self, scale: str, model: str, task: str, value: float) -> Cell:
        line = self._lines.get((scale, model, task))
        return Cell(value, line["low"], line["high"], line["mark"]) if line else Cell(value)

    def difference(self, scale: str, model: str) -> Cell:
        """An average's difference to that of the best static row."""
        line = self._lines.get((scale, model, AVERAGE))
        if line is None:
            return Cell(np.nan)
        return Cell(line["difference"], line["difference_low"], line["difference_high"], signed=True)

    def best_static(self, scale: str) -> dict[str, list[str]]:
        """Which rows' averages are compared with which row."""
        found: dict[str, list[str]] = {}
        for (own, model, task), line in self._lines.items():
            if (own, task) == (scale, AVERAGE) and line["than"]:
                found.setdefault(line["than"], []).append(model)
        return found


def scored(table: pd.DataFrame, scale: str, intervals: Intervals, knowledge: Mapping[str, Mapping[str, str]]) -> Table:
    """A table of scores: rows are models, columns what they are told, the tasks, the average, and its difference to the
    best static row's."""
    rows: list[list[str | Cell]] = []
    for model, values in zip(table.index, table.to_numpy(), strict=True):
        cells = [intervals.cell(scale, model, task, float(value))
                 for task, value in zip(table.columns, values, strict=True)]  # fmt: skip
        told = [knowledge[model][column] for column in KNOWLEDGE]
        rows.append([model, *told, *cells, intervals.difference(scale, model)])
    return Table(["model", *KNOWLEDGE.values(), *table.columns, DIFFERENCE], rows, 1 + len(KNOWLEDGE))
