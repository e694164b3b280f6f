"""How rows are drawn, for splits that have no text in common. A row depends on seed, task and split alone."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import TypeVar

from twin_merging.errors import UserError

Row = TypeVar("Row")
SPLITS = ("train", "validation", "test")
_BUCKETS = {"train": range(0, 70), "validation": range(70, 82), "test": range(82, 100)}
PATIENCE = 1000  # after so many draws in a row without a new text, a split has no more texts


def distinct(
    draw: Callable[[Random], tuple[str, Row]], name: str, split: str, patience: int | None = None
) -> Iterator[Row]:
    """Yield rows of a split with texts that are new to it, until `patience` draws in a row have given none.

    draw gives a row and its text; name is that of the stream of random numbers. A checksum of its text decides which
    split a row belongs to. So no text can be in two splits, not even in those of two tasks.
    """
    rng = Random(name)
    seen: set[str] = set()
    misses = 0
    while misses < (patience or PATIENCE):
        text, row = draw(rng)
        if zlib.crc32(text.encode()) % 100 not in _BUCKETS[split] or text in seen:
            misses += 1
            continue
        seen.add(text)
        misses = 0
        yield row


def take(source: Iterator[Row], count: int, what: str) -> list[Row]:
    """So many rows. Raises UserError where there are fewer; `what` names the split."""
    drawn = [row for _, row in zip(range(count), source, strict=False)]
    if len(drawn) < count:
        raise UserError(f"{what} has only {len(drawn)} distinct examples, but {count} rows are asked for")
    return drawn


def check_splits(task: str, rows: Mapping[str, int]) -> None:
    """Raise UserError for the first key of `rows` that names no split."""
    for split in rows:
        if split not in SPLITS:
            raise UserError(f"unknown split '{split}' of generated task '{task}': it is none of {', '.join(SPLITS)}")
