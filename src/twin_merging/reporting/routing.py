"""Computes the tables about routers: how often, and how surely, a row is routed to its own task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet

from twin_merging.io.files import read_json
from twin_merging.reporting.normalisation import AVERAGE
from twin_merging.routing.verdicts import VERDICT
from twin_merging.scoring.calibration import expected_calibration_error


def read_routes(path: Path) -> pd.DataFrame:
    """The columns task and weights of a predictions file, and `routed` and `unknown` where it has them."""
    names = set(pyarrow.parquet.read_schema(path).names)
    return pd.read_parquet(path, columns=["task", "weights", *(name for name in VERDICT if name in names)])


def routed_of(table: pd.DataFrame, tasks: Sequence[str]) -> npt.NDArray[np.integer]:
    """The index (n,) of the task that each row is routed to: the one that is written, or that of the largest weight."""
    if VERDICT[0] in table:
        return pd.Index(list(tasks)).get_indexer(pd.Index(table[VERDICT[0]]))
    return np.stack(table["weights"].to_list()).argmax(1)


def _own(table: pd.DataFrame, tasks: Sequence[str]) -> npt.NDArray[np.integer]:
    return pd.Index(list(tasks)).get_indexer(pd.Index(table["task"]))


def router_scores(predictions: Mapping[str, Path], metrics: Mapping[str, Path], tasks: Sequence[str]) -> pd.DataFrame:
    """A table with four measures for each model with a router, in percent.

    The measures are how often the router finds the task, on held-out rows and on test rows; the mean weight that a test
    row gives to its own task; and the expected calibration error of the test rows' weights. `avg` is the mean over
    tasks, except for the calibration error, where it is the error of all rows together. Only tasks that the router
    knows count; the cells of others are empty. A model whose router says of rows that they come from none of its tasks
    has a fifth measure, the share of such test rows, which have no weights and no part in the calibration error.
    """
    lines: dict[tuple[str, str], list[float]] = {}
    for model, path in predictions.items():
        held_out = read_json(metrics[model])["accuracy"]
        routed = list(held_out)
        table = read_routes(path)
        table = table[_own(table, routed) >= 0]
        weights, own = np.stack(table["weights"].to_list()), _own(table, routed)
        rows = [own == task for task in range(len(routed))]
        right, given = routed_of(table, routed) == own, weights[np.arange(len(own)), own]
        measured: dict[str, list[Any]] = {
            "held-out accuracy": [held_out[task] for task in routed],
            "test accuracy": [right[chosen].mean() for chosen in rows],
            "test weight of the true task": [given[chosen].mean() for chosen in rows],
        }
        found = {measure: [*values, np.mean(values)] for measure, values in measured.items()}
        unknown = table[VERDICT[1]].to_numpy() if VERDICT[1] in table else np.zeros(len(own), dtype=bool)
        weighed = [chosen & ~unknown for chosen in (*rows, np.ones(len(own), dtype=bool))]
        found["test calibration error"] = [
            expected_calibration_error(weights[chosen], own[chosen]) if chosen.any() else np.nan for chosen in weighed
        ]
        if VERDICT[1] in table:
            shares = [unknown[chosen].mean() for chosen in rows]
            found["test rows of no task"] = [*shares, np.mean(shares)]
        for measure, values in found.items():
            cells = dict(zip([*routed, AVERAGE], values, strict=True))
            lines[model, measure] = [100 * float(cells.get(column, np.nan)) for column in (*tasks, AVERAGE)]
    return _table(lines, ["model", "measure"], [*tasks, AVERAGE])


def routed_rows(predictions: Mapping[str, Path], metrics: Mapping[str, Path], tasks: Sequence[str]) -> pd.DataFrame:
    """A table of how many rows are routed to which task, for each model with a router.

    It has a line for each true task, once for held-out rows and once for test rows, and a column for each task that
    rows are routed to. A row is routed to the task with the largest weight. A task that the router does not know has an
    empty column, and a line of test rows where the model answers it.
    """
    lines: dict[tuple[str, str, str], list[Any]] = {}
    for model, path in predictions.items():
        held_out = read_json(metrics[model])["confusion"]
        answered, counts = _routed_tests(path, list(held_out))
        for task in held_out:
            lines[model, "held-out", task] = [held_out[task].get(routed) for routed in tasks]
        for task in answered:
            lines[model, "test", task] = [counts[task].get(routed) for routed in tasks]
    found = _table(lines, ["model", "rows", "task"], list(tasks))
    return found.astype(dict.fromkeys(tasks, "Int64")) if len(found) else found


def _routed_tests(path: Path, routed: Sequence[str]) -> tuple[list[str], dict[str, dict[str, int]]]:
    """The tasks of a predictions file, the router's `routed` first; and of each how many rows go to which of these."""
    table = read_routes(path)
    names = pd.Series(np.array(routed, dtype=object)[routed_of(table, routed)], index=table.index)
    counts = pd.crosstab(table["task"], names).reindex(columns=list(routed), fill_value=0)
    others = [task for task in dict.fromkeys(table["task"]) if task not in routed]
    return [*routed, *others], {
        str(task): {str(name): int(count) for name, count in row.items()} for task, row in counts.iterrows()
    }


def _table(lines: Mapping[Any, list[Any]], keys: list[str], columns: list[str]) -> pd.DataFrame:
    """A table with columns of keys, then of values. If there are no lines, it has the header alone."""
    return pd.DataFrame([[*key, *values] for key, values in lines.items()], columns=[*keys, *columns])
