"""Average score against an option that the suite sweeps over: a rank, a number of tasks, a scaling, a drop rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twin_merging.reporting.figures.legends import of_lines
from twin_merging.reporting.figures.scores import Interval, Scores
from twin_merging.reporting.figures.style import PALE, Drawing, entitle, heading, new_figure, plain_number, series
from twin_merging.reporting.normalisation import EXPERTS

LABELS = {
    "rank": "rank of the exclusive matrices (logarithmic)",
    "fraction": "rank of the exclusive matrices, share of the full rank",
    "energy": "share of the squared norm that is kept",
    "tasks": "number of merged tasks",
    "scaling": "scaling coefficient",
    "drop_rate": "drop rate",
    "density": "density: share of the entries that are kept",
    "temperature": "temperature of the router",
    "top_k": "experts that are mixed for an input",
}
POWERS = ("rank",)  # values that are powers of two
WHOLE = ("rank", "tasks", "top_k")
MOST_NAMES = 18


def draw(settings: Mapping[str, Any], files: Mapping[str, Sequence[Path]]) -> Drawing:
    """settings: title, option; points, each with its model, the line that it belongs to, and the option's value; kinds
    of these models. files: intervals."""
    scores, option = Scores(files["intervals"][0], settings["kinds"]), settings["option"]
    lines = _lines(scores, settings["points"])
    what = "number of merged tasks" if option == "tasks" else option.replace("_", " ").replace(".", ": ")
    title = f"Average score against {what}"
    figure = new_figure(heading(2) + 2.9 + 0.07 * len(lines))
    axes = figure.add_subplot()
    for number, (name, points) in enumerate(lines.items()):
        look, (values, owns) = series(number), zip(*points, strict=True)
        axes.fill_between(values, [_low(own) for own in owns], [_high(own) for own in owns], color=look["color"],
                          alpha=0.12, linewidth=0)  # fmt: skip
        axes.plot(values, [own.value for own in owns], **look, label=name)
        if len(values) == 1:
            axes.errorbar(values, [owns[0].value], yerr=owns[0].whiskers, fmt="none", ecolor=look["color"], capsize=2)
    _references(axes, scores)
    _axis(axes, option, sorted({value for points in lines.values() for value, _ in points}))
    axes.set_ylabel(f"average {scores.axis}")
    of_lines(figure, *axes.get_legend_handles_labels())
    caption = f"Bands: 95 % intervals; dashed: not merged.{_of_tasks(option)}"
    entitle(figure, title, settings["title"], caption)
    return Drawing(figure, title, caption, f"Average {scores.axis}. {_said(lines)}")


def _of_tasks(option: str) -> str:
    return " Each average is over the tasks that are evaluated then." if option == "tasks" else ""


def _said(lines: Mapping[str, Sequence[tuple[float, Interval]]]) -> str:
    return "; ".join(
        f"{name}: " + ", ".join(f"{plain_number(value)} {own.value:.1f}" for value, own in points)
        for name, points in lines.items()
    )


def _lines(scores: Scores, points: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[float, Interval]]]:
    """The points of each line that have a score, by their values."""
    found: dict[str, list[tuple[float, Interval]]] = {}
    for point in sorted(points, key=lambda point: point["value"]):
        own = scores.of(point["model"])
        if own.is_known:
            found.setdefault(point["line"], []).append((float(point["value"]), own))
    order = list(dict.fromkeys(point["line"] for point in points))
    return {line: found[line] for line in order if line in found}


def _low(own: Interval) -> float:
    return own.value - own.sides[0]


def _high(own: Interval) -> float:
    return own.value + own.sides[1]


def _references(axes: Any, scores: Scores) -> None:
    """The scores of what is not merged, as lines across."""
    for model in ("pretrained", EXPERTS):
        own = scores.of(model)
        if own.is_known:
            axes.axhline(own.value, color=PALE, linewidth=0.8, linestyle=(0, (4, 2)), zorder=1)
            axes.annotate(model, (1, own.value), (-2, 2), xycoords=("axes fraction", "data"), color=PALE, fontsize=6.5,
                          textcoords="offset points", ha="right")  # fmt: skip


def _axis(axes: Any, option: str, values: Sequence[float]) -> None:
    """An axis that has a tick at each value, as far as there is room."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

    axes.set_xlabel(LABELS.get(option, option.replace("_", " ").replace(".", ": ")))
    if option in POWERS:
        near = {"linthresh": 1, "linscale": 0.6} if min(values, default=1) <= 0 else None
        axes.set_xscale(**({"value": "symlog", **near} if near else {"value": "log"}), base=2)
        axes.xaxis.set_minor_locator(NullLocator())
    if len(values) <= MOST_NAMES:
        axes.xaxis.set_major_locator(FixedLocator(list(values)))
    elif option not in POWERS:
        axes.xaxis.set_major_locator(MaxNLocator(10, integer=option in WHOLE))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: plain_number(value)))
    if len(values) == 1:
        axes.set_xlim(values[0] - 0.5, values[0] + 0.5)
