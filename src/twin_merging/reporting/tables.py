"""Stage tabulate: makes a suite's tables from its scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from twin_merging.io.files import whole_file, write_text
from twin_merging.reporting.choices import choices_section
from twin_merging.reporting.normalisation import (
    absolute_scores,
    markdown_table,
    normalised_scores,
    own_scores,
    with_average,
)
from twin_merging.reporting.routing import routed_rows, router_scores


def write_tables(
    *,
    title: str,
    scores: Path,
    tasks: Sequence[str],
    knowledge: Mapping[str, Mapping[str, str]],
    predictions: Mapping[str, Path],
    router_metrics: Mapping[str, Path],
    outputs: Mapping[str, Path],
    choices: Sequence[Path] = (),
) -> None:
    """Write a suite's tables: the normalised one (CSV and Markdown), the absolute one, every expert on every task, and
    the two about routers.

    scores: the file that stage score wrote.
    knowledge: for each model `protocol`, and `true_task`: what it was told about the true task of a test row.
    predictions, router_metrics: for each model with a router, its predictions, and the measurements of its router.
    outputs: paths named normalised, markdown, absolute, experts, router, routing.
    choices: for each model with options that were chosen on validation rows, what stage choose wrote.
    """
    lines = pd.read_csv(scores)
    absolute = absolute_scores(lines, tasks)
    normalised = normalised_scores(absolute)
    own = with_average(own_scores(absolute))
    cross = absolute.loc[[f"expert-{task}" for task in tasks]].rename(index=lambda name: name.removeprefix("expert-"))
    _write_csv(_with_knowledge(normalised, knowledge), outputs["normalised"])
    _write_csv(_with_knowledge(own, knowledge), outputs["absolute"])
    _write_csv(cross.rename_axis("expert").reset_index(), outputs["experts"])
    routed = router_scores(predictions, router_metrics, tasks)
    _write_csv(routed, outputs["router"])
    _write_csv(routed_rows(predictions, router_metrics, tasks), outputs["routing"])
    rows = lines.drop_duplicates("task").set_index("task")["rows"]
    text = _markdown(title=title, normalised=normalised, absolute=own, routed=routed, knowledge=knowledge, rows=rows)
    write_text(outputs["markdown"], "\n\n".join([text.rstrip("\n"), *choices_section(choices)]) + "\n")


def _with_knowledge(table: pd.DataFrame, knowledge: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    found = table.rename_axis("model").reset_index()
    found.insert(1, "protocol", [knowledge[model]["protocol"] for model in found["model"]])
    found.insert(2, "true_task", [knowledge[model]["true_task"] for model in found["model"]])
    return found


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    with whole_file(path) as partial:
        table.to_csv(partial, index=False, float_format="%.4f")


def _markdown(
    *,
    title: str,
    normalised: pd.DataFrame,
    absolute: pd.DataFrame,
    routed: pd.DataFrame,
    knowledge: Mapping[str, Mapping[str, str]],
    rows: pd.Series,
) -> str:
    counts = sorted(set(rows))
    on = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
    left_out = [task for task in normalised.columns if normalised[task].isna().all()]
    parts = [
        f"# {title}",
        f"Normalised scores: 100 x a model's score / the expert's score on the same test rows ({on} rows a task). "
        "`true task` says what a model was told of the task that a row comes from: its head, its biases, or nothing.",
        markdown_table(_with_knowledge(normalised, knowledge).rename(columns={"true_task": "true task"})),
    ]
    if left_out:
        parts.append(
            f"No normalised score for {', '.join(left_out)}: the expert scores 0 or less; `avg` leaves it out."
        )
    parts += [
        "Absolute scores of the same models, in percent (correlations x 100):",
        markdown_table(_with_knowledge(absolute, knowledge)[["model", *absolute.columns]]),
    ]
    if len(routed):
        parts += [
            "Routing, in percent (the calibration error's `avg` is that of all rows together):",
            markdown_table(routed),
        ]
    return "\n\n".join(parts) + "\n"
