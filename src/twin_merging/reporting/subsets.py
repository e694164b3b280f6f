"""Models that are about some of a suite's tasks: which of their scores stand in which table, and what is said of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from twin_merging.reporting.normalisation import AVERAGE, EXPERTS, own_scores, with_average

# Of each model that is not about all tasks: `merged`, and `left_out`, which it answers without having merged them.
Subsets = Mapping[str, Mapping[str, Sequence[str]]]
PRETRAINED = "pretrained"
NO_SUBSETS: Subsets = {}


def without_left_out(absolute: pd.DataFrame, subsets: Subsets) -> pd.DataFrame:
    """The table of scores without those of tasks that a model has not merged."""
    found = absolute.copy()
    for model, subset in subsets.items():
        found.loc[model, list(subset["left_out"])] = np.nan
    return found


def unseen_scores(absolute: pd.DataFrame, subsets: Subsets) -> pd.DataFrame:
    """The scores of tasks that models have not merged, in percent: columns model, left_out, the tasks, and avg.

    Models with the same tasks in `left_out` stand together, below the base and above these tasks' own experts.
    """
    own = own_scores(absolute)
    groups: dict[tuple[str, ...], list[str]] = {}
    for model, subset in subsets.items():
        if subset["left_out"]:
            groups.setdefault(tuple(subset["left_out"]), []).append(model)
    columns = [task for task in absolute.columns if any(task in tasks for tasks in groups)]
    parts = [
        with_average(own.loc[[PRETRAINED, *models, EXPERTS], list(tasks)])
        .reindex(columns=[*columns, AVERAGE])
        .rename_axis("model")
        .reset_index()
        .assign(left_out="+".join(tasks))
        for tasks, models in groups.items()
    ]
    order = ["model", "left_out", *columns, AVERAGE]
    return pd.concat(parts, ignore_index=True)[order] if parts else pd.DataFrame(columns=order)


def notes(subsets: Subsets) -> list[str]:
    """For people: which models are about which tasks; models of the same tasks in one line."""
    groups: dict[str, list[str]] = {}
    for model, subset in subsets.items():
        without = f" ({', '.join(subset['left_out'])} left out)" if subset["left_out"] else ""
        groups.setdefault(f"{', '.join(subset['merged'])}{without}", []).append(model)
    if not groups:
        return []
    lines = "\n".join(f"* {', '.join(models)}: {tasks}" for tasks, models in groups.items())
    return [f"Models of some of the tasks, whose `avg` is the mean over these alone:\n\n{lines}"]
