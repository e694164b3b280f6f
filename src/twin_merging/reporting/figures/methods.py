"""Every model's score on every task, with intervals: bars in a group a task for few models, points in a panel a task
for many."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twin_merging.reporting.figures.legends import of_lines, of_points
from twin_merging.reporting.figures.scores import Scores, left_out
from twin_merging.reporting.figures.style import (
    INK,
    KINDS,
    PALE,
    WIDTH,
    Drawing,
    entitle,
    heading,
    new_figure,
    point,
)
from twin_merging.reporting.normalisation import EXPERTS

TITLE = "Scores by task"
FEW = 6  # models that stand side by side in one group
HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "----")
FILLS = ("#ffffff", "#bfe0f5", "#e69f00", "#d55e00", "#009e73", "#0072b2")  # from light to dark
COLUMNS = 4


def draw(settings: Mapping[str, Any], files: Mapping[str, Sequence[Path]]) -> Drawing:
    """settings: title, tasks, kinds (each model's). files: intervals."""
    scores = Scores(files["intervals"][0], settings["kinds"])
    tasks = scores.known(settings["tasks"])
    models = [model for model in scores.grouped() if scores.scale == "absolute" or model != EXPERTS]
    caption = "With 95 % intervals."
    caption += left_out(settings["tasks"], tasks) * (scores.scale == "normalised")
    figure = (_bars if len(models) <= FEW else _points)(scores, models, tasks)
    entitle(figure, TITLE, settings["title"], caption)
    best = "; ".join(f"{task}: {_best(scores, models, task)}" for task in tasks)
    return Drawing(figure, TITLE, caption, f"{scores.axis}; best by task: {best}.")


def _best(scores: Scores, models: Sequence[str], task: str) -> str:
    own = {model: scores.of(model, task).value for model in models if scores.of(model, task).is_known}
    best = max(own, key=own.__getitem__)
    return f"{best} {own[best]:.1f}"


def _bars(scores: Scores, models: Sequence[str], tasks: Sequence[str]) -> Any:
    """A group of bars for each task."""
    figure = new_figure(heading(2) + 2.6)
    axes = figure.add_subplot()
    width = 0.84 / max(1, len(models))
    for number, model in enumerate(models):
        for group, task in enumerate(tasks):
            own = scores.of(model, task)
            if own.is_known:
                place = group + (number - (len(models) - 1) / 2) * width
                axes.bar(place, own.value, width * 0.92, color=FILLS[number], edgecolor=INK, linewidth=0.6,
                         hatch=HATCHES[number], label=model if group == 0 else None)  # fmt: skip
                axes.errorbar(place, own.value, yerr=own.whiskers, fmt="none", ecolor=INK, elinewidth=0.8, capsize=1.5)
    long = sum(map(len, tasks)) > 70
    axes.set_xticks(range(len(tasks)), tasks, rotation=30 if long else 0, ha="right" if long else "center")
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="x", visible=False)
    axes.axhline(0, color=PALE, linewidth=0.6)
    if scores.scale == "normalised":
        axes.axhline(100, color=INK, linewidth=0.8, linestyle=(0, (4, 2)))
    axes.set_ylabel(scores.axis)
    of_lines(figure, *axes.get_legend_handles_labels())
    return figure


def _points(scores: Scores, models: Sequence[str], tasks: Sequence[str]) -> Any:
    """A panel for each task with a row for each model."""
    columns = min(COLUMNS, len(tasks))
    rows = math.ceil(len(tasks) / columns)
    figure = new_figure(heading(1) + 0.65 + rows * (0.35 + 0.125 * len(models)), WIDTH)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for number, axes in enumerate(grid.flat):
        if number >= len(tasks):
            axes.set_visible(False)
            continue
        axes.set_title(tasks[number], fontsize=7.5)
        _draw_points(axes, scores, models, tasks[number])
        for place in range(1, len(models)):
            if scores.kinds[models[place]] != scores.kinds[models[place - 1]]:
                axes.axhline(place - 0.5, color=PALE, linewidth=0.5)
        if scores.scale == "normalised":
            axes.axvline(100, color=PALE, linewidth=0.8, linestyle=(0, (4, 2)))
        axes.tick_params(axis="y", length=0, labelsize=6.5)
        axes.tick_params(axis="x", labelbottom=number + columns >= len(tasks))
    grid[0, 0].set_yticks(range(len(models)), models)
    grid[0, 0].set_ylim(-0.7, len(models) - 0.3)
    of_points(figure, {scores.kinds[model] for model in models}, scores.axis)
    return figure


def _draw_points(axes: Any, scores: Scores, models: Sequence[str], task: str) -> None:
    """A point with whiskers for each model that has a score, all of a kind at once."""
    for kind in dict.fromkeys(scores.kinds[model] for model in models):
        found = [(place, scores.of(model, task)) for place, model in enumerate(models) if scores.kinds[model] == kind]
        known = [(place, own) for place, own in found if own.is_known]
        if known:
            below, above = zip(*(own.sides for _, own in known), strict=True)
            axes.errorbar([own.value for _, own in known], [place for place, _ in known], xerr=[below, above],
                          **point(KINDS[kind]), ecolor=INK, elinewidth=0.8)  # fmt: skip
