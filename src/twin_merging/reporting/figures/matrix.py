"""A table of numbers as a field of shades, each with its number in it where there is room."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from twin_merging.reporting.figures.style import PALE, SEQUENTIAL, text_on

MOST_WITH_NUMBERS = 12
Numbers = npt.NDArray[np.floating]


def draw_matrix(
    axes: Any,
    values: Numbers,
    rows: Sequence[str],
    columns: Sequence[str],
    limits: tuple[float, float],
    digits: int = 0,
    letters: float = 7,
    least: float = -math.inf,
) -> Any:
    """Draw values (rows, columns) and give the image, which a colour bar is made of. A cell that is not known (NaN) is
    crossed out. limits: the values of the lightest and the darkest shade; least: smaller numbers are left out."""
    import matplotlib
    from matplotlib.colors import Normalize

    shades, scaled = matplotlib.colormaps[SEQUENTIAL], Normalize(*limits)
    image = axes.imshow(values, cmap=shades, norm=scaled, aspect="auto", interpolation="nearest")
    axes.set_xticks(range(len(columns)), columns, rotation=40, ha="right", rotation_mode="anchor", fontsize=letters)
    axes.set_yticks(range(len(rows)), rows, fontsize=letters)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    for row, column in np.ndindex(values.shape):
        value = float(values[row, column])
        if np.isnan(value):
            axes.plot([column - 0.4, column + 0.4], [row - 0.4, row + 0.4], color=PALE, linewidth=0.6)
        elif value >= least and max(values.shape) <= MOST_WITH_NUMBERS:
            text = f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")
            axes.text(column, row, text, ha="center", va="center", fontsize=letters - 0.5,
                      color=text_on(shades(scaled(value))))  # fmt: skip
    return image


def frame_diagonal(axes: Any, rows: Sequence[str], columns: Sequence[str]) -> None:
    """Frame the cells whose row and column have one name."""
    from matplotlib.patches import Rectangle

    for row, name in enumerate(rows):
        if name in columns:
            place = (list(columns).index(name) - 0.5, row - 0.5)
            axes.add_patch(Rectangle(place, 1, 1, fill=False, edgecolor="black", linewidth=1, clip_on=False, zorder=3))


def bar(figure: Any, image: Any, axes: Any, label: str) -> None:
    """A colour bar beside axes (one or several), with a label and no frame."""
    several = isinstance(axes, list) and len(axes) > 2
    found = figure.colorbar(image, ax=axes, shrink=0.45 if several else 0.8, aspect=22, pad=0.02)
    found.set_label(label)
    found.outline.set_visible(False)
    found.ax.grid(visible=False)
