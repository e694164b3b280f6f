"""Computes the tables about routers: how often, and how surely, a row is routed to its own task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from twin_merging.io.files import read_json
from twin_merging.reporting.normalisation import AVERAGE
from twin_merging.scoring.calibration import expected_calibration_error


def read_weights(path: Path, tasks: Sequence[str]) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.integer]]:
    """Read the weights (n, T) of a predictions file, and the index (n,) of each row's own task."""
    table = pd.read_parquet(path, columns=["task", "weights"])
    return np.stack(table["weights"].to_list()), pd.Index(list(tasks)).get_indexer(pd.Index(table["task"]))


def router_scores(predictions: Mapping[str, Path], metrics: Mapping[str, Path], tasks: Sequence[str]) -> pd.DataFrame:
    """A table with four measures for each model with a router, in percent.

    The measures are how often the router finds the task, on held-out rows and on test rows; the mean weight that a test
    row gives to its own task; and the expected calibration error of the test rows' weights. `avg` is the mean over
    tasks, except for the calibration error, where it is the error of all rows together.
    """
    lines: dict[tuple[str, str], list[float]] = {}
    for model, path in predictions.items():
        held_out = read_json(metrics[model])["accuracy"]
        weights, own = read_weights(path, tasks)
        rows = [own == task for task in range(len(tasks))]
        right, given = weights.argmax(1) == own, weights[np.arange(len(own)), own]
        measured: dict[str, list[Any]] = {
            "held-out accuracy": [held_out[task] for task in tasks],
            "test accuracy": [right[chosen].mean() for chosen in rows],
            "test weight of the true task": [given[chosen].mean() for chosen in rows],
        }
        for measure, values in measured.items():
            lines[model, measure] = [100 * float(value) for value in (*values, np.mean(values))]
        errors = [expected_calibration_error(weights[chosen], own[chosen]) for chosen in (*rows, slice(None))]
        lines[model, "test calibration error"] = [100 * error for error in errors]
    return _table(lines, ["model", "measure"], [*tasks, AVERAGE])


def routed_rows(predictions: Mapping[str, Path], metrics: Mapping[str, Path], tasks: Sequence[str]) -> pd.DataFrame:
    """A table of how many rows are routed to which task, for each model with a router.

    It has a line for each true task, once for held-out rows and once for test rows, and a column for each task that
    rows are routed to. A row is routed to the task with the largest weight.
    """
    lines: dict[tuple[str, str, str], list[int]] = {}
    for model, path in predictions.items():
        held_out = read_json(metrics[model])["confusion"]
        weights, own = read_weights(path, tasks)
        counts = np.zeros((len(tasks), len(tasks)), dtype=np.int64)
        np.add.at(counts, (own, weights.argmax(1)), 1)
        for task in tasks:
            lines[model, "held-out", task] = [held_out[task][routed] for routed in tasks]
        for task, row in zip(tasks, counts.tolist(), strict=True):
            lines[model, "test", task] = row
    return _table(lines, ["model", "rows", "task"], list(tasks))


def _table(lines: Mapping[Any, list[Any]], keys: list[str], columns: list[str]) -> pd.DataFrame:
    """A table with columns of keys, then of values. If there are no lines, it has the header alone."""
    return pd.DataFrame([[*key, *values] for key, values in lines.items()], columns=[*keys, *columns])
