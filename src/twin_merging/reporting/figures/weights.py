"""The mean weights that the routers give to the test rows of each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from twin_merging.reporting.figures.panels import Panel, draw_panels, omitted
from twin_merging.reporting.figures.style import Drawing, entitle

TITLE = "Mean routing weights"


def draw(settings: Mapping[str, Any], files: Mapping[str, Sequence[Path]]) -> Drawing:
    """settings: title; mixtures, each with its models and the tasks that it weighs. files: predictions, of the first
    model of each mixture."""
    mixtures = zip(settings["mixtures"], files["predictions"], strict=True)
    panels = [_panel(path, mixture["models"], mixture["tasks"]) for mixture, path in mixtures]
    figure = draw_panels(panels, "mean weight, %", "test rows of", "weight of")
    caption = f"The mean over a task's test rows; framed: the weight of their own task.{omitted(panels)}"
    entitle(figure, TITLE, settings["title"], caption)
    said = "; ".join(f"{panel.title} {np.mean(panel.diagonal):.1f}" for panel in panels)
    return Drawing(figure, TITLE, caption, f"Mean weight of a row's own task, in percent: {said}.")


def _panel(path: Path, models: Sequence[str], tasks: Sequence[str]) -> Panel:
    table = pd.read_parquet(path, columns=["task", "weights"])
    rows = list(dict.fromkeys(table["task"]))
    means = [np.stack(table.loc[table["task"] == task, "weights"].to_list()).mean(0, dtype=float) for task in rows]
    return Panel(models, 100 * np.stack(means), rows, list(tasks))
