"""To which task the routers send the rows of each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from twin_merging.reporting.figures.panels import Panel, draw_panels, omitted
from twin_merging.reporting.figures.style import Drawing, entitle

TITLE = "Where the router sends test rows"


def draw(settings: Mapping[str, Any], files: Mapping[str, Sequence[Path]]) -> Drawing:
    """settings: title; routers, each with its models and the tasks it chooses from. files: routing, the table of
    routed rows."""
    table = pd.read_csv(files["routing"][0], dtype={"model": str, "task": str}, keep_default_na=False)
    table = table[table["rows"] == "test"]
    panels = [_panel(table, router["models"], router["tasks"]) for router in settings["routers"]]
    figure = draw_panels(panels, "test rows of the task, %", "rows of", "sent to")
    caption = f"A row is sent to the task with the largest weight; framed: its own.{omitted(panels)}"
    entitle(figure, TITLE, settings["title"], caption)
    said = "; ".join(f"{panel.title} {np.mean(panel.diagonal):.1f}" for panel in panels)
    return Drawing(figure, TITLE, caption, f"Rows sent to their own task, in percent: {said}.")


def _panel(table: pd.DataFrame, models: Sequence[str], tasks: Sequence[str]) -> Panel:
    own = table[table["model"] == models[0]].set_index("task")
    rows = [str(task) for task in own.index]
    counts = own[list(tasks)].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)
    known = [place for place, line in enumerate(counts) if np.nansum(line) > 0]
    shares = 100 * counts[known] / np.nansum(counts[known], axis=1, keepdims=True)
    return Panel(models, shares, [rows[place] for place in known], list(tasks))
