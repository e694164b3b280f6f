"""Every model's average score as a bar, with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twin_merging.reporting.figures.legends import of_bars
from twin_merging.reporting.figures.scores import Scores, left_out
from twin_merging.reporting.figures.style import INK, KINDS, PALE, Drawing, entitle, heading, new_figure

TITLE = "Average score"


def draw(settings: Mapping[str, Any], files: Mapping[str, Sequence[Path]]) -> Drawing:
    """settings: title, tasks, kinds (each model's). files: intervals."""
    scores = Scores(files["intervals"][0], settings["kinds"])
    models, known = scores.grouped(), scores.known(settings["tasks"])
    caption = f"Mean over {len(known)} task{'s' * (len(known) != 1)}, with 95 % intervals"
    caption += "; bold: better than the next, by its interval." if _marked(scores, models) else "."
    caption += left_out(settings["tasks"], known) * (scores.scale == "normalised")
    figure = new_figure(heading(2) + 0.75 + 0.155 * len(models))
    axes = figure.add_subplot()
    for place, model in enumerate(models):
        own, look = scores.of(model), KINDS[scores.kinds[model]]
        axes.barh(place, own.value, height=0.72, color=look.colour, edgecolor=INK, linewidth=0.6, hatch=look.hatch)
        axes.errorbar(own.value, place, xerr=own.whiskers, fmt="none", ecolor=INK, elinewidth=0.9, capsize=1.8)
        weight = "bold" if own.mark == "best" else "normal"
        right = max(0.0, own.value + own.sides[1])
        axes.annotate(f"{own.value:.1f}", (right, place), (4, 0), textcoords="offset points", va="center", fontsize=7,
                      fontweight=weight)  # fmt: skip
    axes.set_yticks(range(len(models)), models)
    axes.set_ylim(-0.7, len(models) - 0.3)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.13)
    axes.axvline(0, color=PALE, linewidth=0.6)
    axes.set_xlabel(f"average {scores.axis}")
    of_bars(figure, {scores.kinds[model] for model in models})
    entitle(figure, TITLE, settings["title"], caption)
    said = ", ".join(f"{model} {scores.of(model).value:.1f}" for model in reversed(models))
    return Drawing(figure, TITLE, caption, f"Average {scores.axis}, with 95 % intervals: {said}.")


def _marked(scores: Scores, models: Sequence[str]) -> bool:
    return any(scores.of(model).mark == "best" for model in models)
