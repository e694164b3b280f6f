"""How tensors are cut into ranges of rows. A tensor of fewer than two dimensions is one row.

A *piece* is the unit of arithmetic: its bounds depend on the tensor's shape alone, and whatever could round differently
with the number of rows at hand (a product of LoRA factors, a sum over a tensor) is computed a piece at a time. A
*chunk* is what is in memory at once: a whole number of pieces. So no result depends on the size of chunks.
"""

from __future__ import annotations

import math

PIECE = 2**16
CHUNK = 2**17
_STEP = 8  # rows: every piece but the last holds a multiple of 8 numbers, so bits pack into whole bytes


def row_count(shape: tuple[int, ...]) -> int:
    return shape[0] if len(shape) > 1 else 1


def row_width(shape: tuple[int, ...]) -> int:
    """Numbers in one row."""
    return math.prod(shape[1:]) if len(shape) > 1 else math.prod(shape)


def pieces(shape: tuple[int, ...], start: int = 0, stop: int | None = None) -> list[tuple[int, int]]:
    """First and last row (exclusive) of each piece of a tensor between two bounds of pieces."""
    return _ranges(start, row_count(shape) if stop is None else stop, _rows_a_piece(shape))


def chunks(shape: tuple[int, ...], size: int = CHUNK) -> list[tuple[int, int]]:
    """First and last row (exclusive) of each chunk: as many pieces as hold about `size` numbers, at least one."""
    rows = _rows_a_piece(shape)
    step = rows * max(1, size // max(1, rows * row_width(shape)))
    return _ranges(0, row_count(shape), step)


def _rows_a_piece(shape: tuple[int, ...]) -> int:
    return max(_STEP, PIECE // max(1, row_width(shape)) // _STEP * _STEP)


def _ranges(start: int, stop: int, step: int) -> list[tuple[int, int]]:
    return [(first, min(first + step, stop)) for first in range(start, stop, step)]
