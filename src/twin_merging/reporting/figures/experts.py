"""Every expert's score on every task: how much one knows of the tasks of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from twin_merging.reporting.figures.matrix import bar, draw_matrix, frame_diagonal
from twin_merging.reporting.figures.style import Drawing, entitle, heading, new_figure

TITLE = "Experts on all tasks"


def draw(settings: Mapping[str, Any], files: Mapping[str, Sequence[Path]]) -> Drawing:
    """settings: title, tasks. files: experts, the cross table."""
    table = pd.read_csv(files["experts"][0], dtype={"expert": str}, keep_default_na=False, na_values={
        task: [""] for task in settings["tasks"]
    }).set_index("expert")  # fmt: skip
    tasks = [task for task in settings["tasks"] if task in table.columns]
    values = table[tasks].to_numpy(dtype=float)
    experts = list(table.index)
    figure = new_figure(heading(2) + 1.3 + 0.3 * len(experts))
    axes = figure.add_subplot()
    known = values[~np.isnan(values)]
    limits = (min(0.0, *known, 0.0), max(100.0, *known, 0.0))
    image = draw_matrix(axes, values, experts, tasks, limits, digits=1)
    frame_diagonal(axes, experts, tasks)
    axes.set_ylabel("expert of")
    axes.set_xlabel("evaluated on")
    bar(figure, image, axes, "score, % (correlations × 100)")
    caption = "Absolute scores on test rows; framed: an expert on its own task."
    entitle(figure, TITLE, settings["title"], caption)
    own = ", ".join(f"{task} {table.loc[task, task]:.1f}" for task in tasks if task in table.index)
    return Drawing(figure, TITLE, caption, f"Scores in percent. Each expert on its own task: {own}.")
