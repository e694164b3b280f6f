"""Average score against what a model takes on disk: the trade-off between the two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from twin_merging.io.sizes import human_bytes
from twin_merging.reporting.figures.legends import of_points
from twin_merging.reporting.figures.names import write_names
from twin_merging.reporting.figures.scores import Scores
from twin_merging.reporting.figures.style import (
    KINDS,
    PALE,
    Drawing,
    entitle,
    heading,
    new_figure,
    point,
)

TITLE = "Average score against storage"
STEPS = (1, 1.5, 2, 3, 5, 7, 10)  # where a short axis has ticks, times a power of ten


def draw(settings: Mapping[str, Any], files: Mapping[str, Sequence[Path]]) -> Drawing:
    """settings: title, kinds (each model's). files: intervals; storage, the table of stored bytes."""
    scores = Scores(files["intervals"][0], settings["kinds"])
    table = pd.read_csv(files["storage"][0], dtype={"model": str}, keep_default_na=False)
    stored = {model: float(count) for model, count in zip(table["model"], table["bytes"], strict=True)}
    models = [model for model in scores.grouped() if stored.get(model, 0) > 0]
    figure = new_figure(heading(2) + max(3.4, 0.9 + 0.15 * len(models)))
    axes = figure.add_subplot()
    for model in models:
        own, look = scores.of(model), KINDS[scores.kinds[model]]
        axes.errorbar(
            stored[model], own.value, yerr=own.whiskers, **point(look, 4.6), ecolor=PALE, elinewidth=0.8, zorder=3
        )
    _axis_of_bytes(axes, [stored[model] for model in models])
    axes.margins(y=0.08)
    axes.set_ylabel(f"average {scores.axis}")
    places = {model: (stored[model], scores.of(model).value) for model in models}
    front = unbeaten(places)
    line = _steps([places[model] for model in front], axes.get_xlim()[1])
    axes.plot(*zip(*line, strict=True), color=PALE, linewidth=0.9, linestyle=(0, (4, 2)), zorder=1)
    of_points(figure, {scores.kinds[model] for model in models})
    caption = "Bytes on disk for all tasks together, with 95 % intervals. On the line: what nothing smaller reaches."
    entitle(figure, TITLE, settings["title"], caption)
    write_names(figure, axes, models, list(places.values()), line, 6.2)
    said = ", ".join(f"{model} {human_bytes(stored[model])} {scores.of(model).value:.1f}" for model in front)
    return Drawing(figure, TITLE, caption, "Models that no smaller one reaches, average "
                   f"{scores.axis}: {said}.")  # fmt: skip


def unbeaten(models: Mapping[str, tuple[float, float]]) -> list[str]:
    """The models (bytes, score) for which no other has at most their bytes and at least their score, by bytes."""
    found: list[str] = []
    for model in sorted(models, key=lambda name: (models[name][0], -models[name][1])):
        if not found or models[model][1] > models[found[-1]][1]:
            found.append(model)
    return found


def _steps(points: Sequence[tuple[float, float]], right: float) -> list[tuple[float, float]]:
    """The corners of the line below which a model is beaten by another."""
    found: list[tuple[float, float]] = []
    for x, y in points:
        found += [(x, found[-1][1]), (x, y)] if found else [(x, y)]
    return [*found, (right, found[-1][1])] if found else [(right, 0.0)]


def _axis_of_bytes(axes: Any, counts: Sequence[float]) -> None:
    """A logarithmic axis whose ticks are round numbers of bytes."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.set_xscale("log")
    low, high = (min(counts), max(counts)) if counts else (1.0, 1.0)
    low, high = low / 1.35, high * 1.6
    axes.set_xlim(low, high)
    powers = [10.0**power for power in range(15)]
    ticks: list[float] = []
    for steps in (STEPS, STEPS[::2], (1, 3), (1,)):
        ticks = sorted({step * power for power in powers for step in steps if low <= step * power <= high})
        if len(ticks) <= 8:
            break
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: human_bytes(value)))
    axes.set_xlabel("stored on disk, bytes (logarithmic)")
