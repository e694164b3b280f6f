"""Finds places for the names of points so that no name lies on another, on a point, or outside of the axes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: Box) -> float:
        """The area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(0.0, width) * max(0.0, height)

    def outside(self, frame: Box) -> float:
        """The area that is not in a frame."""
        return (self.right - self.left) * (self.top - self.bottom) - self.overlap(frame)


def places(
    points: Sequence[Point], sizes: Sequence[Point], frame: Box, radius: float, taken: Sequence[Box]
) -> list[Box]:
    """Where the names of points stand: from the top down, each at the nearest free place; where none is free, at the
    one that covers least.

    points, sizes: (x, y) and (width, height) of each name, in pixels; radius: of a point; taken: what else is drawn.
    """
    marks = [Box(x - radius, y - radius, x + radius, y + radius) for x, y in points]
    found: dict[int, Box] = {}
    for number in sorted(range(len(points)), key=lambda place: (-points[place][1], points[place][0], place)):
        others = [*marks, *taken, *found.values()]

        def covered(box: Box, others: Sequence[Box] = others) -> float:
            return box.outside(frame) + sum(box.overlap(other) for other in others)

        candidates = list(_around(points[number], sizes[number], radius))
        free = next((box for box in candidates if covered(box) == 0), None)
        found[number] = free or min(candidates, key=covered)
    return [found[number] for number in range(len(points))]


def _around(point: Point, size: Point, radius: float) -> Iterator[Box]:
    """Places for a name around its point, the nearest first; beside it before above and below."""
    (x, y), (width, height) = point, size
    for ring in range(28):
        distance = radius * 1.4 + ring * height * 0.5
        for angle in (0, 180, 30, -30, 150, -150, 60, -60, 120, -120, 90, -90):
            across, up = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            middle = (x + across * (distance + width / 2), y + up * (distance + height / 2))
            yield Box(middle[0] - width / 2, middle[1] - height / 2, middle[0] + width / 2, middle[1] + height / 2)


def write_names(figure: Any, axes: Any, names: Sequence[str], points: Sequence[Point], letters: float) -> list[Any]:
    """Write a name beside each point (x, y in the units of the axes), with a thin line to it where it stands far away.
    The axes are laid out before, and stay as they are. Gives the texts."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    renderer = canvas.get_renderer()
    texts = [axes.text(0, 0, name, fontsize=letters, va="center", ha="center", zorder=5) for name in names]
    extents = [text.get_window_extent(renderer) for text in texts]
    pixels = [tuple(map(float, axes.transData.transform(point))) for point in points]
    whole, scale = axes.get_window_extent(renderer), figure.dpi / 72
    frame = Box(whole.x0, whole.y0, whole.x1, whole.y1)
    sizes = [(extent.width + 2 * scale, extent.height + scale) for extent in extents]
    boxes = places(pixels, sizes, frame, 3.2 * scale, [])  # type: ignore[arg-type]
    inverse = axes.transData.inverted()
    for text, box, point, (x, y) in zip(texts, boxes, points, pixels, strict=True):
        text.set_position(inverse.transform(((box.left + box.right) / 2, (box.bottom + box.top) / 2)))
        edge = (min(max(x, box.left), box.right), min(max(y, box.bottom), box.top))
        if math.dist(edge, (x, y)) > 6 * scale:
            end = inverse.transform(edge)
            axes.plot([point[0], end[0]], [point[1], end[1]], color="#9a9a9a", linewidth=0.5, zorder=1)
    return texts
