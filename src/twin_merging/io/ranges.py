"""Cuts tensors into ranges of rows. A tensor of fewer than two dimensions is one row.

There are two kinds of ranges. A *chunk* is what is in memory at once. A *piece* is a smaller range, whose bounds depend
on the tensor's shape alone; a chunk consists of whole pieces. Some results could round differently with the number of
rows that are computed at once (a product of LoRA factors, a sum over a tensor). These are computed one piece at a time.
So no result depends on the size of chunks.
"""

from __future__ import annotations

import math

PIECE = 2**16
CHUNK = 2**17
_STEP = 8  # rows; so every piece but the last has a multiple of 8 numbers, and their bits fill whole bytes


def row_count(shape: tuple[int, ...]) -> int:
    return shape[0] if len(shape) > 1 else 1


def row_width(shape: tuple[int, ...]) -> int:
    """How many numbers a row has."""
    return math.prod(shape[1:]) if len(shape) > 1 else math.prod(shape)


def pieces(shape: tuple[int, ...], start: int = 0, stop: int | None = None) -> list[tuple[int, int]]:
    """First and last row (exclusive) of each piece between the rows `start` and `stop`, which are bounds of pieces."""
    return _ranges(start, row_count(shape) if stop is None else stop, _rows_a_piece(shape))


def chunks(shape: tuple[int, ...], size: int = CHUNK) -> list[tuple[int, int]]:
    """First and last row (exclusive) of each chunk. A chunk has at least one piece, and about `size` numbers."""
    rows = _rows_a_piece(shape)
    step = rows * max(1, size // max(1, rows * row_width(shape)))
    return _ranges(0, row_count(shape), step)


def _rows_a_piece(shape: tuple[int, ...]) -> int:
    return max(_STEP, PIECE // max(1, row_width(shape)) // _STEP * _STEP)


def _ranges(start: int, stop: int, step: int) -> list[tuple[int, int]]:
    return [(first, min(first + step, stop)) for first in range(start, stop, step)]
