"""A bootstrap over test rows: as many rows as there are, drawn from them with replacement, 10,000 times.

The rows that are drawn depend on the task's name and the count of its rows alone, so every model of a suite is scored
on the same resamples, and so is every suite with the same task: differences and ratios of two models are paired.
Source: Efron and Tibshirani 1993, chapters 6 and 13.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from twin_merging.scoring.bootstrap import RESAMPLES
from twin_merging.scoring.weighted import Floats, weighted_metric

_NUMBERS, _AT_ONCE = 2**17, 32  # counts, and at least resamples, that are held at once: they fit a core's cache


def seed_of(task: str, rows: int) -> int:
    """The seed of a task's resamples: the first 8 bytes of the SHA-256 of its name, a line break, and its row count."""
    return int.from_bytes(hashlib.sha256(f"{task}\n{rows}".encode()).digest()[:8], "big")


def row_counts(task: str, rows: int, resamples: int = RESAMPLES, numbers: int = _NUMBERS) -> Iterator[Floats]:
    """How often each row was drawn (rows, c), for about so many resamples at a time as make `numbers` of counts.

    The generator's raw 64-bit numbers are used, which NumPy promises not to change: row floor(u * rows / 2**32) of the
    upper 32 bits u.
    """
    generator = np.random.PCG64(seed_of(task, rows))
    at_once = max(_AT_ONCE, numbers // rows)
    for start in range(0, resamples, at_once):
        count = min(at_once, resamples - start)
        drawn = ((generator.random_raw(count * rows) >> 32) * rows >> 32).astype(np.int64).reshape(count, rows)
        places = drawn * count + np.arange(count)[:, None]
        yield np.bincount(places.ravel(), minlength=rows * count).reshape(rows, count).astype(float)


def resampled_scores(
    task: str,
    metric: str,
    outputs: Sequence[Sequence[Any]],
    references: Sequence[Any],
    resamples: int = RESAMPLES,
) -> Floats:
    """The scores (models, resamples) of several models' answers to the same rows, from -1 or 0 to 1."""
    score = weighted_metric(metric, outputs, references)
    return np.concatenate([score(counts) for counts in row_counts(task, len(references), resamples)], axis=1)
