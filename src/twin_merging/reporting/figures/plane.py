"""Scores on two tasks over the plane of their weights: theta_s + a v_1 + b v_2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from twin_merging.reporting.figures.style import SEQUENTIAL, Drawing, entitle, heading, new_figure, plain_number

TITLE = "Scores over the plane of two tasks' weights"
CORNERS = {(0.0, 0.0): "shared", (1.0, 0.0): "{0}", (0.0, 1.0): "{1}", (1.0, 1.0): "both"}


def draw(settings: Mapping[str, Any], files: Mapping[str, Sequence[Path]]) -> Drawing:
    """settings: title, method, tasks (two). files: plane, the table of scores over the grid."""
    table = pd.read_csv(files["plane"][0], dtype={"task": str}, keep_default_na=False)
    tasks = list(settings["tasks"])
    figure = new_figure(heading(2) + 2.9)
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    best = []
    for axes, task in zip(panels, tasks, strict=True):
        own = table[table["task"] == task].pivot(index="b", columns="a", values="score")
        _panel(figure, axes, own, tasks)
        axes.set_title(f"score on {task}, %")
        axes.set_xlabel(f"a: weight of {tasks[0]}")
        best.append(_best(task, own))
    panels[0].set_ylabel(f"b: weight of {tasks[1]}")
    rows = "; ".join(f"{count} of {task}" for task, count in table.groupby("task", sort=False)["rows"].first().items())
    caption = f"{settings['method']}: shared model + a × exclusive of {tasks[0]} + b × exclusive of {tasks[1]}; "
    caption += f"validation rows: {rows}."
    entitle(figure, TITLE, settings["title"], caption)
    return Drawing(figure, TITLE, caption, f"{'; '.join(best)}.")


def _best(task: str, own: pd.DataFrame) -> str:
    scores = own.to_numpy(dtype=float)
    row, column = (int(place) for place in np.unravel_index(int(scores.argmax()), scores.shape))
    return f"{task}: best {scores[row, column]:.1f} at a = {own.columns[column]}, b = {own.index[row]}"


def _panel(figure: Any, axes: Any, own: pd.DataFrame, tasks: Sequence[str]) -> None:
    across, up, scores = own.columns.to_numpy(float), own.index.to_numpy(float), own.to_numpy(float)
    levels = _levels(scores)
    field = axes.contourf(across, up, scores, levels=levels, cmap=SEQUENTIAL)
    axes.contour(across, up, scores, levels=levels, colors="black", linewidths=0.4)
    bar = figure.colorbar(field, ax=axes, orientation="horizontal", aspect=25, pad=0.03)
    bar.outline.set_visible(False)
    bar.ax.xaxis.set_major_formatter(lambda value, _: plain_number(value))
    ground = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8}
    for (a, b), name in CORNERS.items():
        if across[0] <= a <= across[-1] and up[0] <= b <= up[-1]:
            axes.plot(a, b, marker="o", markersize=4, color="white", markeredgecolor="black", zorder=4)
            axes.annotate(name.format(*tasks), (a, b), (0, 4.5), textcoords="offset points", ha="center", fontsize=6.5,
                          bbox=ground, zorder=5)  # fmt: skip
    axes.grid(visible=False)
    axes.set_aspect("equal")


def _levels(scores: Any) -> Any:
    """About ten round levels between the smallest and the largest score."""
    from matplotlib.ticker import MaxNLocator

    low, high = float(scores.min()), float(scores.max())
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    return MaxNLocator(10).tick_values(low, high)
