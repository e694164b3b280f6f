"""Some models' scores on all tasks as polygons, as in the paper (figure 1)."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twin_merging.reporting.figures.legends import of_lines
from twin_merging.reporting.figures.scores import Scores, left_out
from twin_merging.reporting.figures.style import INK, PALE, Drawing, entitle, heading, new_figure, series

TITLE = "Scores by task, the best of each kind"
LEAST_TASKS = 3


def draw(settings: Mapping[str, Any], files: Mapping[str, Sequence[Path]]) -> Drawing:
    """settings: title, tasks, kinds (each model's). files: intervals."""
    scores = Scores(files["intervals"][0], settings["kinds"])
    tasks, models = scores.known(settings["tasks"]), chosen(scores)
    figure = new_figure(heading(2) + 4.1)
    caption = f"{scores.axis.capitalize()}; of each kind the models with the best averages."
    if len(tasks) < LEAST_TASKS:
        figure.text(0.5, 0.4, f"fewer than {LEAST_TASKS} tasks have a score", ha="center", color=PALE)
    else:
        _polygons(figure, scores, tasks, models)
    caption += left_out(settings["tasks"], tasks) * (scores.scale == "normalised")
    entitle(figure, TITLE, settings["title"], caption)
    said = "; ".join(
        f"{model}: {', '.join(f'{scores.of(model, task).value:.0f}' for task in tasks)}" for model in models
    )
    return Drawing(figure, TITLE, caption, f"{scores.axis}, on {', '.join(tasks)}: {said}.")


def _said(scores: Scores, model: str, tasks: Sequence[str]) -> str:
    return ", ".join(f"{scores.of(model, task).value:.0f}" for task in tasks)


def chosen(scores: Scores) -> list[str]:
    """The models that are drawn: more could not be told apart."""
    kinds = {"pretrained": 1, "static": 3, "masked": 1, "dynamic": 2}
    if scores.scale == "absolute":
        kinds |= {"experts": 1}
    return [model for kind, count in kinds.items() for model in scores.best(kind, count)]


def _polygons(figure: Any, scores: Scores, tasks: Sequence[str], models: Sequence[str]) -> None:
    import numpy as np

    axes = figure.add_subplot(projection="polar")
    angles = np.linspace(0, 2 * np.pi, len(tasks), endpoint=False)
    around = np.append(angles, angles[0])
    lowest = 0.0
    for number, model in enumerate(models):
        values = np.nan_to_num([scores.of(model, task).value for task in tasks])
        lowest = min(lowest, *values)
        look = series(number)
        axes.plot(around, np.append(values, values[0]), **look, markersize=3.2, label=model)
        if scores.kinds[model] == "dynamic":
            axes.fill(around, np.append(values, values[0]), color=look["color"], alpha=0.08)
    if scores.scale == "normalised":
        axes.plot(np.linspace(0, 2 * np.pi, 181), [100] * 181, color=INK, linewidth=0.8, linestyle=(0, (4, 2)),
                  label="experts (100 %)")  # fmt: skip
    axes.set_theta_offset(np.pi / 2)
    axes.set_theta_direction(-1)
    axes.set_xticks(angles, [textwrap.fill(task, 16, break_long_words=False) for task in tasks])
    axes.set_ylim(20 * np.floor(lowest / 20), None)
    axes.set_yticks(np.arange(20 * np.floor(lowest / 20), 101, 20))
    axes.tick_params(axis="y", labelsize=6, labelcolor=PALE)
    axes.set_rlabel_position(180 / len(tasks))
    axes.spines["polar"].set_visible(False)
    for label, angle in zip(axes.get_xticklabels(), angles, strict=True):
        side = np.sin(angle)
        label.set_horizontalalignment("center" if abs(side) < 0.1 else "left" if side > 0 else "right")
    of_lines(figure, *axes.get_legend_handles_labels())
