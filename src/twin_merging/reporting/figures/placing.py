"""Finds places for the names of points so that no name lies on another, on a point, or outside of the axes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Point = tuple[float, float]
TINY = 0.01  # an area in pixels that rounding leaves
WORSE = 20  # how many times as bad it is to cover a point as to cover something else
STACK = 3  # so many points over each other have their names in a column beside them


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels."""

    left: float
    bottom: float
    right: float
    top: float

    @classmethod
    def around(cls, middle: Point, size: Point) -> Box:
        (x, y), (width, height) = middle, size
        return cls(x - width / 2, y - height / 2, x + width / 2, y + height / 2)

    @property
    def middle(self) -> Point:
        return (self.left + self.right) / 2, (self.bottom + self.top) / 2

    def overlap(self, other: Box) -> float:
        """The area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(0.0, width) * max(0.0, height)

    def outside(self, frame: Box) -> float:
        """The area that is not in a frame."""
        return (self.right - self.left) * (self.top - self.bottom) - self.overlap(frame)


def places(
    points: Sequence[Point], sizes: Sequence[Point], frame: Box, radius: float, taken: Sequence[Box] = ()
) -> list[Box]:
    """Where the names of points stand. Names of points over each other stand in a column; then, from the top down, each
    other name stands at the nearest free place, or where none is free, at the one that covers least.

    points, sizes: (x, y) and (width, height) of each name, in pixels; radius: of a point; taken: what else is drawn.
    """
    marks = [Box.around(point, (2 * radius, 2 * radius)) for point in points]
    used = [*taken, *marks]
    found: dict[int, Box] = {}
    for stack in _stacks(points, radius):
        own, others = [points[place] for place in stack], [*taken, *marks * WORSE, *found.values()]
        columns = _columns(own, [sizes[place] for place in stack], frame, radius)
        costs = [
            (sum(_cost(*pair, frame, others) for pair in zip(own, column, strict=True)), column) for column in columns
        ]
        found |= zip(stack, min(costs, key=lambda cost: cost[0])[1], strict=True)
    for place in sorted(range(len(points)), key=lambda place: (-points[place][1], points[place][0], place)):
        if place not in found:
            others, candidates = [*used, *found.values()], list(_around(points[place], sizes[place], radius))
            free = next((box for box in candidates if _covered(box, frame, others) < TINY), None)
            found[place] = free or min(candidates, key=lambda box: _covered(box, frame, others))
    return [found[place] for place in range(len(points))]


def _covered(box: Box, frame: Box, others: Sequence[Box]) -> float:
    return box.outside(frame) + sum(box.overlap(other) for other in others)


def _cost(point: Point, box: Box, frame: Box, others: Sequence[Box]) -> float:
    """How bad a place in a column is: what it covers, and how far it is from its point."""
    return _covered(box, frame, others) + 0.5 * min(abs(box.left - point[0]), abs(box.right - point[0]))


def _stacks(points: Sequence[Point], radius: float) -> list[list[int]]:
    """Points that stand over each other, each group from the bottom up; only groups of STACK and more."""
    groups: list[list[int]] = []
    for place in sorted(range(len(points)), key=lambda place: points[place]):
        if groups and points[place][0] - points[groups[-1][0]][0] <= radius:
            groups[-1].append(place)
        else:
            groups.append([place])
    return [sorted(group, key=lambda place: points[place][1]) for group in groups if len(group) >= STACK]


def _columns(points: Sequence[Point], sizes: Sequence[Point], frame: Box, radius: float) -> Iterator[list[Box]]:
    """Columns of names, on the right of their points or on the left, in the order of the points."""
    heights = _spread([y for _, y in points], max(height for _, height in sizes), frame)
    for gap in (4 * radius, 8 * radius, 14 * radius, 22 * radius, 32 * radius, 44 * radius):
        for side in (1, -1):
            xs = [x + side * (gap + width / 2) for (x, _), (width, _) in zip(points, sizes, strict=True)]
            yield [Box.around(*place) for place in zip(zip(xs, heights, strict=True), sizes, strict=True)]


def _spread(wanted: Sequence[float], least: float, frame: Box) -> list[float]:
    """Heights near those wanted (in rising order), with `least` between two, within the frame as far as they fit.

    Neighbours that come too near are moved as one block, so that its middle stays where it was (as isotonic regression
    does it).
    """
    blocks: list[tuple[float, int]] = []  # of each block of names: its middle, and how many there are
    for height in wanted:
        middle, count = height, 1
        while blocks and middle - blocks[-1][0] < least * (count + blocks[-1][1]) / 2:
            before, number = blocks.pop()
            middle, count = (before * number + middle * count) / (number + count), number + count
        blocks.append((middle, count))
    found = [middle + least * (place - (count - 1) / 2) for middle, count in blocks for place in range(count)]
    lowest, highest = frame.bottom + least / 2, frame.top - least / 2
    for place in range(len(found)):  # from the bottom up, then from the top down
        found[place] = max(found[place], lowest + least * place)
    for place in range(len(found)):
        found[-1 - place] = min(found[-1 - place], highest - least * place)
    return found


def _around(point: Point, size: Point, radius: float) -> Iterator[Box]:
    """Places for a name around its point, the nearest first; beside it before above and below."""
    (x, y), (width, height) = point, size
    for ring in range(32):
        distance = radius * 1.5 + ring * height * 0.5
        for angle in (0, 180, 30, -30, 150, -150, 60, -60, 120, -120, 90, -90, 45, -45, 135, -135, 75, -75, 105, -105):
            across, up = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            yield Box.around((x + across * (distance + width / 2), y + up * (distance + height / 2)), size)
