"""The table of what lm-eval found of a suite's models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from twin_merging.io.files import read_json, whole_file, write_text
from twin_merging.reporting.normalisation import markdown_table

COLUMNS = ["model", "task", "metric", "filter", "value", "stderr", "rows", "num_fewshot", "true_task"]
NUMBERS = ("value", "stderr")


def write_lm_eval_tables(
    *, title: str, results: Mapping[str, Path], knowledge: Mapping[str, str], outputs: Mapping[str, Path]
) -> None:
    """Write the table as CSV and as Markdown: a line for each model, task, metric and filter.

    results: for each model, the file that rule lm_eval wrote; knowledge: what each was told of the true task of a row;
    outputs: paths named csv, markdown. Values are lm-eval's own: shares are 0 to 1.
    """
    found = {model: read_json(file) for model, file in results.items()}
    table = pd.DataFrame([line for model in found for line in _lines(model, found[model], knowledge)], columns=COLUMNS)
    with whole_file(outputs["csv"]) as partial:
        table.to_csv(partial, index=False, float_format="%.6f")
    write_text(outputs["markdown"], _markdown(title, table, found))


def _lines(model: str, found: Mapping[str, Any], knowledge: Mapping[str, str]) -> Iterator[tuple[Any, ...]]:
    for task, measured in found["tasks"].items():
        for entry in measured["metrics"]:
            numbers = (entry["value"], entry["stderr"])
            asked = (_count(measured["rows"]), _count(measured["num_fewshot"]))
            yield model, task, entry["metric"], entry["filter"], *numbers, *asked, knowledge[model]


def _count(value: int | None) -> str:
    """Groups of tasks that differ have no count."""
    return "" if value is None else str(value)


def _markdown(title: str, table: pd.DataFrame, found: Mapping[str, Any]) -> str:
    versions = sorted({results["lm_eval"] for results in found.values()})
    tasks = {f"{task} {m['version']}" for results in found.values() for task, m in results["tasks"].items()}
    rounded = table.assign(**{name: [_rounded(number) for number in table[name]] for name in NUMBERS})
    parts = [
        f"# {title}: lm-eval",
        f"By lm-eval {', '.join(versions)}, tasks {', '.join(sorted(tasks))}. Values are lm-eval's own (shares are 0 "
        "to 1), `stderr` their standard errors over the rows. `true task` says what a model was told of the task that "
        "a row comes from: a router chooses by the text before what is scored or written.",
        markdown_table(rounded.rename(columns={"num_fewshot": "few-shot", "true_task": "true task"})),
    ]
    return "\n\n".join(parts) + "\n"


def _rounded(value: float | None) -> str:
    return "" if value is None or pd.isna(value) else f"{value:.4f}"
