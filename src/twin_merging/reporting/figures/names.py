"""Writes the names of points into axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from twin_merging.reporting.figures.placing import Box, Point, places

RADIUS = 3.2  # of a point, in points of letters


def write_names(
    figure: Any, axes: Any, names: Sequence[str], points: Sequence[Point], line: Sequence[Point], letters: float
) -> list[Any]:
    """Write a name beside each point (x, y in the units of the axes), with a thin line to it where it stands far away.
    The limits of the axes stay as they are. line: corners of a line of steps that names should not lie on. Gives the
    texts."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # as it is now: the names lie inside
    renderer, scale = canvas.get_renderer(), figure.dpi / 72
    ground = {"facecolor": "white", "edgecolor": "none", "pad": 0.4}  # a line behind a name does not strike it out
    texts = [
        axes.text(0, 0, name, fontsize=letters, va="center", ha="center", zorder=2.5, bbox=ground) for name in names
    ]
    sizes = [_size(text.get_window_extent(renderer), scale) for text in texts]
    pixels, corners = ([_pixels(axes, point) for point in some] for some in (points, line))
    whole = axes.get_window_extent(renderer)
    taken = [_between(*ends, scale) for ends in pairwise(corners)]
    boxes = places(pixels, sizes, Box(whole.x0, whole.y0, whole.x1, whole.y1), RADIUS * scale, taken)
    inverse = axes.transData.inverted()
    for text, box, point, (x, y) in zip(texts, boxes, points, pixels, strict=True):
        side, place = _aligned(box, x, scale)
        text.set_horizontalalignment(side)
        text.set_position(inverse.transform((place, box.middle[1])))
        edge = (min(max(x, box.left), box.right), min(max(y, box.bottom), box.top))
        if math.dist(edge, (x, y)) > 2 * RADIUS * scale:
            end = inverse.transform((edge[0], box.middle[1]) if edge[0] != x else edge)
            axes.plot([point[0], end[0]], [point[1], end[1]], color="#8a8a8a", linewidth=0.5, zorder=2)
    return texts


def _size(extent: Any, scale: float) -> Point:
    return float(extent.width) + 2 * scale, float(extent.height) + scale


def _aligned(box: Box, x: float, scale: float) -> tuple[str, float]:
    """How a text is aligned in its box, and where: towards its point."""
    if box.left >= x:
        return "left", box.left + scale
    return ("right", box.right - scale) if box.right <= x else ("center", box.middle[0])


def _pixels(axes: Any, point: Point) -> Point:
    x, y = axes.transData.transform(point)
    return float(x), float(y)


def _between(one: Point, other: Point, scale: float) -> Box:
    """The room that a straight line up or across takes."""
    (left, right), (bottom, top) = sorted((one[0], other[0])), sorted((one[1], other[1]))
    return Box(left - scale, bottom - scale, right + scale, top + scale)
