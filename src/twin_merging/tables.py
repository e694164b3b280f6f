"""Stage tabulate: the suite's tables, from its scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from twin_merging.files import read_json, whole_file, write_text

EXPERTS = "experts"
AVERAGE = "avg"


def absolute_scores(scores: pd.DataFrame, tasks: Sequence[str]) -> pd.DataFrame:
    """Scores in percent, a row a model, a column a task, in the order of `scores` and of `tasks`."""
    models = list(dict.fromkeys(scores["model"]))
    return 100 * scores.pivot(index="model", columns="task", values="value").loc[models, list(tasks)]


def expert_scores(absolute: pd.DataFrame) -> pd.Series:
    """Each task's expert on its own task."""
    return pd.Series({task: absolute.loc[f"expert-{task}", task] for task in absolute.columns})


def normalised_scores(absolute: pd.DataFrame) -> pd.DataFrame:
    """100 * score / the expert's score on the same rows, and `avg`, their mean over tasks.

    Where an expert scores 0 or less there is no normalised score: the cell is empty for every model, and the average
    leaves the task out. Negative scores stay negative. The row `experts` is 100 by definition.
    """
    experts = expert_scores(absolute)
    merged = absolute[[not model.startswith("expert-") for model in absolute.index]]
    with_experts = pd.concat([merged, experts.to_frame(EXPERTS).T])
    table = 100 * with_experts / experts.where(experts > 0, np.nan)
    table[AVERAGE] = table.mean(axis=1)
    return table


def router_scores(predictions: Mapping[str, Path], metrics: Mapping[str, Path], tasks: Sequence[str]) -> pd.DataFrame:
    """Of each routed model, in percent: accuracy of the task identified on held-out and on test rows, and the mean
    weight that test rows give to their own task."""
    lines: dict[tuple[str, str], dict[Any, float]] = {}
    for model, path in predictions.items():
        held_out = read_json(metrics[model])["accuracy"]
        lines[model, "held-out accuracy"] = {task: 100 * held_out[task] for task in tasks}
        table = pd.read_parquet(path)
        weights = np.stack(table["weights"].to_list())
        own = np.array([list(tasks).index(task) for task in table["task"]])
        table["right"] = 100.0 * (weights.argmax(1) == own)
        table["own"] = 100.0 * weights[np.arange(len(own)), own]
        lines[model, "test accuracy"] = table.groupby("task")["right"].mean().to_dict()
        lines[model, "test weight of the true task"] = table.groupby("task")["own"].mean().to_dict()
    found = pd.DataFrame.from_dict(lines, orient="index", columns=list(tasks))
    found[AVERAGE] = found.mean(axis=1)
    found.index = pd.MultiIndex.from_tuples(lines, names=["model", "measure"])
    return found


def write_tables(
    title: str,
    scores: Path,
    tasks: Sequence[str],
    knowledge: Mapping[str, Mapping[str, str]],
    predictions: Mapping[str, Path],
    router_metrics: Mapping[str, Path],
    outputs: Mapping[str, Path],
) -> None:
    """Write the normalised table (csv, md), the absolute one, the experts' cross table, and the router's.

    knowledge: for each model `protocol` and `true_task`, what it was told of the true task of a test row. outputs:
    paths named normalised, markdown, absolute, experts, router.
    """
    lines = pd.read_csv(scores)
    absolute = absolute_scores(lines, tasks)
    normalised = normalised_scores(absolute)
    merged = [model for model in normalised.index if model != EXPERTS]
    own = pd.concat([absolute.loc[merged], expert_scores(absolute).to_frame(EXPERTS).T])
    own[AVERAGE] = own.mean(axis=1)
    cross = absolute.loc[[f"expert-{task}" for task in tasks]].rename(index=lambda name: name.removeprefix("expert-"))
    _write_csv(_with_knowledge(normalised, knowledge), outputs["normalised"])
    _write_csv(_with_knowledge(own, knowledge), outputs["absolute"])
    _write_csv(cross.rename_axis("expert").reset_index(), outputs["experts"])
    routed = router_scores(predictions, router_metrics, tasks) if predictions else None
    _write_csv(
        pd.DataFrame(columns=["model", "measure", *tasks, AVERAGE]) if routed is None else routed.reset_index(),
        outputs["router"],
    )
    rows = lines.drop_duplicates("task").set_index("task")["rows"]
    write_text(outputs["markdown"], _markdown(title, normalised, own, routed, knowledge, rows))


def _with_knowledge(table: pd.DataFrame, knowledge: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    found = table.rename_axis("model").reset_index()
    found.insert(1, "protocol", [knowledge[model]["protocol"] for model in found["model"]])
    found.insert(2, "true_task", [knowledge[model]["true_task"] for model in found["model"]])
    return found


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    with whole_file(path) as partial:
        table.to_csv(partial, index=False, float_format="%.4f")


def _markdown(
    title: str,
    normalised: pd.DataFrame,
    absolute: pd.DataFrame,
    routed: pd.DataFrame | None,
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
    if routed is not None:
        parts += ["Routing, in percent:", markdown_table(routed.reset_index())]
    return "\n\n".join(parts) + "\n"


def markdown_table(table: pd.DataFrame) -> str:
    """A pipe table with columns in step, numbers to two digits and to the right."""
    cells = [[str(column) for column in table.columns]]
    cells += [[_cell(value) for value in row] for row in table.itertuples(index=False)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(table.columns))]
    numeric = [pd.api.types.is_numeric_dtype(table[column]) for column in table.columns]
    lines = [
        "| " + " | ".join(c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, numeric, strict=True)) + " |"
        for row in cells
    ]
    rule = "|" + "|".join("-" * (w + 1) + (":" if n else "-") for w, n in zip(widths, numeric, strict=True)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.2f}"
    return str(value)
