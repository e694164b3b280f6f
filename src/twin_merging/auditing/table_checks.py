"""Checks of numbers: scores and tables recomputed from predictions, and what stands beside them."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin_merging.auditing.recomputed import (
    SCORES,
    recomputed_intervals,
    recomputed_scores,
    recomputed_storage,
    recomputed_tables,
)
from twin_merging.auditing.results import Findings, Job, Results

if TYPE_CHECKING:
    import pandas as pd

SAME = 1e-9  # scores are written with all digits; other versions of SciPy may differ in the last ones
# Columns before the numbers, of each table by its name.
KEYS = {"normalised": 3, "absolute": 3, "experts": 1, "router": 2, "routing": 3, "unseen": 4, "csv": 4,
        "intervals": 3, "storage": 1}  # fmt: skip
FROM_PREDICTIONS, FROM_LM_EVAL, FROM_MODELS = "the predictions give", "lm-eval's results give", "the models' files give"


def check_tables(results: Results) -> Findings:
    """scores.csv and the intervals from the predictions by the suite's metrics, every cell of every table from these,
    and what models store from their files."""
    found = Findings()
    score, tabulate, intervals, storage = map(results.the_job, ("score", "tabulate", "intervals", "storage"))
    recomputed = recomputed_scores(results, score)
    _compare_scores(results, found, score, recomputed)
    cells = 0
    with tempfile.TemporaryDirectory() as folder:
        recomputed.to_csv(Path(folder, SCORES), index=False)
        again = recomputed_intervals(results, intervals, Path(folder))
        (written,) = intervals["output"][""]
        cells += _compare_table(results, found, intervals, "intervals", written, again)
        files = recomputed_tables(results, tabulate, Path(folder))
        for name, (written,) in tabulate["output"].items():
            cells += _compare_table(results, found, tabulate, name, written, files[name])
        again = recomputed_storage(results, storage, Path(folder))
        (written,) = storage["output"][""]
        cells += _compare_table(results, found, storage, "storage", written, again, FROM_MODELS)
    found.facts = {"scores": len(recomputed), "cells": cells}
    found.summary = f"{len(recomputed)} scores and {cells} cells of tables follow from the predictions, digit by digit"
    for job in results.of_rule("lm_eval_table"):
        _check_lm_eval(results, found, job)
    return found


def _check_lm_eval(results: Results, found: Findings, job: Job) -> None:
    """The tables of what lm-eval found, from its results as they are."""
    from twin_merging.reporting.lm_eval import write_lm_eval_tables

    settings = job["settings"]
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder, Path(file).name) for name, (file,) in job["output"].items()}
        write_lm_eval_tables(
            title=settings["title"],
            results={model: results.path(results.of_suite("lm_eval", f"{model}.json")) for model in settings["models"]},
            knowledge=settings["models"],
            outputs=files,
        )
        cells = sum(
            _compare_table(results, found, job, name, written, files[name], FROM_LM_EVAL)
            for name, (written,) in job["output"].items()
        )
    found.facts["cells of lm-eval"] = cells
    found.summary += f"; {cells} cells from lm-eval's results"


def _compare_scores(results: Results, found: Findings, score: Job, recomputed: pd.DataFrame) -> None:
    import pandas as pd

    name = results.of_suite("scores.csv")
    keys = ["model", "task"]
    written: Any = pd.read_csv(results.path(name), keep_default_na=False).set_index(keys)
    wanted: Any = recomputed.set_index(keys)
    for at in [*wanted.index.difference(written.index), *written.index.difference(wanted.index)]:
        found.fail(f"{name}: model {at[0]}, task {at[1]}: a line too many or too few", score)
    for at in wanted.index.intersection(written.index, sort=False):
        line, again = written.loc[at], wanted.loc[at]
        for column in ("value", "rows", "metric", "protocol"):
            if not _same(line[column], again[column]):
                found.fail(
                    f"{name}: model {at[0]}, task {at[1]}: {column} {line[column]} is written, the predictions give "
                    f"{again[column]}",
                    score,
                )


def _same(written: Any, recomputed: Any) -> bool:
    try:
        return abs(float(written) - float(recomputed)) <= SAME
    except (TypeError, ValueError):
        return str(written) == str(recomputed)


def _compare_table(
    results: Results, found: Findings, job: Job, kind: str, name: str, again: Path, give: str = FROM_PREDICTIONS
) -> int:
    """Compare a table with the recomputed one, and give the count of its cells."""
    path = results.path(name)
    if not path.is_file():
        found.fail(f"{name}: missing", job)
        return 0
    if path.suffix != ".csv":
        return _compare_lines(found, job, name, _lines(path), _lines(again), give)
    written, wanted = _cells(path), _cells(again)
    if len(written) != len(wanted) or written[:1] != wanted[:1]:
        found.fail(f"{name}: other rows or columns than the suite's {len(wanted) - 1} rows", job)
        return 0
    for line, row in zip(written[1:], wanted[1:], strict=True):
        for column, cell, other in zip(wanted[0], line, row, strict=False):
            if cell != other:
                at = " ".join(row[: KEYS[kind]])
                found.fail(f"{name}: row {at}, column {column}: {cell} is written, {give} {other}", job)
    return sum(len(row) - KEYS[kind] for row in wanted[1:])


def _compare_lines(
    found: Findings, job: Job, name: str, written: Sequence[str], wanted: Sequence[str], give: str
) -> int:
    for number, (line, other) in enumerate(zip(written, wanted, strict=False), start=1):
        if line != other:
            found.fail(f"{name}: line {number}: '{line.strip()}' is written, {give} '{other.strip()}'", job)
    if len(written) != len(wanted):
        found.fail(f"{name}: {len(written)} lines, {give} {len(wanted)}", job)
    return sum(line.count("|") - 2 for line in wanted if line.startswith("|") and not line.startswith(("|-", "|:-")))


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def _cells(path: Path) -> list[list[str]]:
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream))


def check_statements(results: Results) -> Findings:
    """Every row of a table says its protocol and what it was told of the true task; every score its rows, the same rows
    for every model, and the suite's metric."""
    import pandas as pd

    found = Findings()
    score, tabulate = results.the_job("score"), results.the_job("tabulate")
    name = results.of_suite("scores.csv")
    scores: Any = pd.read_csv(results.path(name), keep_default_na=False)
    metrics = {task: entry["metric"] for task, entry in results.content["tasks"].items()}
    for task, lines in scores.groupby("task", sort=False):
        models = {model for model in results.models if task in _answered(results, model)}
        if set(lines["model"]) != models:
            found.fail(f"{name}: task {task}: not a score for each of the suite's {len(models)} models", score)
        if lines["rows"].nunique() != 1 or not (lines["rows"] > 0).all():
            found.fail(f"{name}: task {task}: models are scored on {sorted(set(lines['rows']))} rows", score)
        if set(lines["metric"]) != {metrics.get(str(task))}:
            found.fail(f"{name}: task {task}: metric {', '.join(set(lines['metric']))} is not the suite's", score)
    for _, line in scores.drop_duplicates("model").iterrows():
        if line["protocol"] != results.models.get(line["model"], {}).get("protocol"):
            found.fail(f"{name}: model {line['model']}: protocol {line['protocol']} is not the suite's", score)
    for kind in ("normalised", "absolute"):
        (file,) = tabulate["output"][kind]
        table: Any = pd.read_csv(results.path(file), keep_default_na=False)
        for _, row in table[table["model"] != "experts"].iterrows():
            stated = {"protocol": row["protocol"], "true_task": row["true_task"]}
            if stated != results.models.get(row["model"]):
                found.fail(f"{file}: row {row['model']}: {stated} is not what the suite says of it", tabulate)
    found.facts = {
        "rows": {str(task): int(rows) for task, rows in scores.groupby("task", sort=False)["rows"].first().items()}
    }
    protocols = sorted({entry["protocol"] for entry in results.models.values()} - {"none"})
    found.summary = (
        f"{len(results.models)} models, protocol {', '.join(protocols)}, all on the same rows of {len(metrics)} tasks"
    )
    return found


def _answered(results: Results, model: str) -> Sequence[str]:
    """The tasks whose rows a model answers: all, unless its entry names some."""
    return results.content["methods"].get(model, {}).get("tasks", list(results.content["tasks"]))
