"""Small fields of shades side by side, one for each router."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from twin_merging.reporting.figures.matrix import Numbers, bar, draw_matrix, frame_diagonal
from twin_merging.reporting.figures.style import heading, new_figure

MOST = 6


@dataclass(frozen=True)
class Panel:
    """values (rows, columns) in percent; models: those that the panel is of."""

    models: Sequence[str]
    values: Numbers
    rows: Sequence[str]
    columns: Sequence[str]

    @property
    def title(self) -> str:
        """Its models, as many of their names as fit."""
        shown, rest = self.models[:2], len(self.models) - 2
        return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")

    @property
    def diagonal(self) -> list[float]:
        """The values where row and column have one name."""
        return [
            float(self.values[place, list(self.columns).index(name)])
            for place, name in enumerate(self.rows)
            if name in self.columns
        ]


def draw_panels(panels: Sequence[Panel], label: str, row_label: str, column_label: str) -> Any:
    """A figure of the first MOST panels, with one colour bar."""
    panels = panels[:MOST]
    columns = 1 if len(panels) == 1 else 2
    rows = math.ceil(len(panels) / columns)
    most = max(len(panel.rows) for panel in panels)
    each = 0.3 if columns == 1 else 0.2
    figure = new_figure(heading(2) + rows * (1.15 + each * most))
    grid = figure.subplots(rows, columns, squeeze=False)
    image = None
    for place, axes in enumerate(grid.flat):
        if place >= len(panels):
            axes.set_visible(False)
            continue
        panel = panels[place]
        letters = 7 if columns == 1 else 6
        image = draw_matrix(axes, panel.values, panel.rows, panel.columns, (0, 100), letters=letters, least=0.5)
        frame_diagonal(axes, panel.rows, panel.columns)
        axes.set_title(panel.title, fontsize=7.5)
        if place % columns == 0:
            axes.set_ylabel(row_label)
        elif list(panel.rows) == list(panels[place - 1].rows):
            axes.set_yticklabels([])
        axes.set_xlabel(column_label)
    bar(figure, image, list(grid.flat), label)
    return figure


def omitted(panels: Sequence[Panel]) -> str:
    """A sentence about panels that are not drawn; empty where all are."""
    return f" The first {MOST} of {len(panels)} routers." if len(panels) > MOST else ""
