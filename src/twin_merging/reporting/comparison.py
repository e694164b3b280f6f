"""Stage compare: sets a suite's scores beside published ones. Absolute and normalised scores are never mixed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from twin_merging.io.files import whole_file, write_text
from twin_merging.reporting.comparison_report import report
from twin_merging.reporting.normalisation import (
    ABSOLUTE,
    AVERAGE,
    EXPERTS,
    NORMALISED,
    absolute_scores,
    normalise,
    normalised_scores,
    own_scores,
    with_average,
)
from twin_merging.reporting.published import SEPARATOR, PublishedScore, read_published
from twin_merging.reporting.subsets import NO_SUBSETS, Subsets, without_left_out

COLUMNS = ["model", "task", "scale", "ours", "published", "difference", "origin", "rows", "published_rows", "source",
           "note"]  # fmt: skip


def compare(
    *,
    title: str,
    tasks: Sequence[str],
    scores: Path,
    published: Path,
    outputs: Mapping[str, Path],
    subsets: Subsets | None = None,
) -> None:
    """Write a suite's scores beside published ones: as a long table, and as a page for reading.

    scores: the file that stage score wrote. published: a file of published scores. outputs: two paths, named table and
    markdown. subsets: the suite's models that are about some of the tasks.
    """
    ours = pd.read_csv(scores)
    table = compared(ours, completed(read_published(published, tasks), tasks), tasks, subsets or {})
    with whole_file(outputs["table"]) as partial:
        table.to_csv(partial, index=False, float_format="%.4f")
    write_text(outputs["markdown"], report(title, table, list(dict.fromkeys(ours["model"])), tasks))


def compared(
    ours: pd.DataFrame, published: Sequence[PublishedScore], tasks: Sequence[str], subsets: Subsets = NO_SUBSETS
) -> pd.DataFrame:
    """Make a line for each published score: our score, the published one (in percent), their difference, the source.

    If the suite has no such model, our score is left empty, and so is the average of a model that has not merged all
    tasks, and its scores on others than it has merged. Normalised scores come first, then absolute ones. The
    suite's models are in its order; behind them come models that the suite does not have, then experts.
    """
    absolute = without_left_out(absolute_scores(ours, tasks), subsets)
    tables = {
        ABSOLUTE: pd.concat([with_average(own_scores(absolute)), absolute.filter(regex="^expert-", axis=0)]),
        NORMALISED: normalised_scores(absolute),
    }
    for table in tables.values():
        table.loc[list(subsets), AVERAGE] = np.nan
    lines = pd.DataFrame([asdict(score) for score in published])
    lines = lines.rename(columns={"value": "published", "rows": "published_rows"})
    lines["ours"] = np.array([_cell(tables[score.scale], score.model, score.task) for score in published])
    lines["difference"] = lines["ours"] - lines["published"]
    rows = ours.drop_duplicates("task").set_index("task")["rows"].reindex(lines["task"])
    lines["rows"] = rows.where(lines["ours"].notna().to_numpy()).astype("Int64").array
    lines["published_rows"] = lines["published_rows"].astype("Int64")
    models = list(dict.fromkeys([*ours["model"], *lines["model"]]))
    models.sort(key=lambda model: (model.startswith("expert-"), model == EXPERTS))
    order = {
        "scale": [NORMALISED, ABSOLUTE],
        "model": models,
        "source": list(dict.fromkeys(lines["source"])),
        "task": [*tasks, AVERAGE],
    }
    ranks = pd.DataFrame({key: lines[key].map({name: rank for rank, name in enumerate(order[key])}) for key in order})
    return lines.loc[ranks.sort_values(list(order)).index, COLUMNS].reset_index(drop=True)


def _cell(table: pd.DataFrame, model: str, task: str) -> float:
    found: Any = table.at[model, task] if model in table.index else np.nan
    return float(found)


def completed(scores: Sequence[PublishedScore], tasks: Sequence[str]) -> list[PublishedScore]:
    """Add to published scores what follows from them: the row `experts`, normalised scores, averages over all tasks.

    A normalised score is computed from the absolute scores of the model and of the expert, as for the suite's own
    models. If an expert's score is published several times, the first one counts. If a source states an average, that
    one is kept.
    """
    experts = _experts(scores, tasks)
    own = [replace(score, model=EXPERTS) for score in experts.values()]
    merged = [score for score in scores if not score.model.startswith("expert-")]
    normalised = [line for group in _groups(merged, ABSOLUTE) for line in _normalised(group, experts, tasks)]
    known = [*own, *merged, *normalised]
    averages = [
        line for scale in (ABSOLUTE, NORMALISED) for group in _groups(known, scale) for line in _average(group, tasks)
    ]
    return [*scores, *own, *normalised, *averages]


def _experts(scores: Sequence[PublishedScore], tasks: Sequence[str]) -> dict[str, PublishedScore]:
    """The published score of each task's expert on its own task. A task without one is left out."""
    found: dict[str, PublishedScore] = {}
    for score in scores:
        if score.task in tasks and score.model == f"expert-{score.task}":
            found.setdefault(score.task, score)
    return {task: found[task] for task in tasks if task in found}


def _groups(scores: Sequence[PublishedScore], scale: str) -> list[list[PublishedScore]]:
    """The scores of one scale, in groups of one model and source."""

    def key(score: PublishedScore) -> tuple[str, str]:
        return score.model, score.source

    chosen = [score for score in scores if score.scale == scale]
    return [list(group) for _, group in groupby(sorted(chosen, key=key), key)]


def _normalised(
    group: Sequence[PublishedScore], experts: Mapping[str, PublishedScore], tasks: Sequence[str]
) -> list[PublishedScore]:
    """The normalised scores of one model, for the tasks whose expert's score is published too."""
    stated = {score.task: score for score in group if score.task in experts}
    if not stated:
        return []
    absolute = pd.DataFrame([{task: stated[task].value for task in stated}])
    own = pd.Series({task: experts[task].value for task in stated})
    values = normalise(absolute, own).iloc[0].dropna()
    sources = SEPARATOR.join(dict.fromkeys([group[0].source, *(experts[task].source for task in stated)]))
    complete = set(stated) == set(tasks)
    lines = [
        replace(stated[task], scale=NORMALISED, value=values[task], source=sources, origin="computed",
                note="100 x score / the expert's")
        for task in stated if task in values
    ]  # fmt: skip
    if complete and lines:
        lines.append(replace(lines[0], task=AVERAGE, value=values[AVERAGE], rows=None, note="mean over tasks"))
    return lines


def _average(group: Sequence[PublishedScore], tasks: Sequence[str]) -> list[PublishedScore]:
    """The mean of one model's scores over all tasks. Nothing if it is published itself, or if a task has no score."""
    values = pd.DataFrame([{score.task: score.value for score in group}])
    if AVERAGE in values or not set(tasks) <= set(values):
        return []
    mean = float(with_average(values[list(tasks)])[AVERAGE].iloc[0])
    return [replace(group[0], task=AVERAGE, value=mean, rows=None, origin="computed", note="mean over tasks")]
