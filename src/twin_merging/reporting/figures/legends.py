"""Legends that say what the fills and the markers of kinds of models mean."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from twin_merging.reporting.figures.style import INK, KINDS, Look

MOST = 4  # kinds of models that the width of a figure takes in one line


def of_points(figure: Any, kinds: Collection[str], title: str | None = None) -> None:
    """What the markers mean. title: the name of an axis that all panels have in common."""
    from matplotlib.lines import Line2D

    points = [
        Line2D([], [], linestyle="none", label=look.label, marker=look.marker, markersize=4, color=look.colour,
               markeredgecolor=INK, markeredgewidth=0.6)
        for look in _looks(kinds)
    ]  # fmt: skip
    _below(figure, points, title)


def of_bars(figure: Any, kinds: Collection[str]) -> None:
    """What the fills of bars mean."""
    from matplotlib.patches import Patch

    boxes = [
        Patch(facecolor=look.colour, edgecolor=INK, linewidth=0.6, hatch=look.hatch * 2, label=look.label)
        for look in _looks(kinds)
    ]
    _below(figure, boxes, None)


def _looks(kinds: Collection[str]) -> list[Look]:
    """The looks of kinds, in their order, those with one meaning once."""
    return list({KINDS[kind].label: KINDS[kind] for kind in KINDS if kind in kinds}.values())


def of_lines(figure: Any, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """What lines are called, in as many columns as the width of the figure takes."""
    if labels:
        width = 0.55 + 0.052 * max(map(len, labels))  # inches of one column
        columns = max(1, min(4, len(labels), int(figure.get_size_inches()[0] / width)))
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, handlelength=2.6, columnspacing=1.2)


def _below(figure: Any, handles: list[Any], title: str | None) -> None:
    columns = len(handles) if len(handles) <= MOST else (len(handles) + 1) // 2
    figure.legend(handles=handles, loc="outside lower center", ncols=max(1, columns), handlelength=1.4,
                  columnspacing=1.4, title=title, title_fontsize=8)  # fmt: skip
