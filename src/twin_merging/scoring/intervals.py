"""Intervals of resampled numbers."""

from __future__ import annotations

import math

import numpy as np

from twin_merging.scoring.bootstrap import LEVEL
from twin_merging.scoring.weighted import Floats

NONE = (math.nan, math.nan)


def interval(resampled: Floats, level: float = LEVEL) -> tuple[float, float]:
    """The percentile interval of a number: between the quantiles (1 - level) / 2 and (1 + level) / 2 of its resamples,
    linearly between two of them.

    Resamples that give no number (NaN: an expert's score of 0 or less has no ratio to it) are left out. If they are
    more than (1 - level) / 2 of all, an end of the interval would rest on them: then there is none, and both ends are
    NaN. Source: Efron and Tibshirani 1993, chapter 13.
    """
    beyond = (1 - level) / 2
    numbers = resampled[~np.isnan(resampled)]
    if len(numbers) < (1 - beyond) * len(resampled):
        return NONE
    low, high = np.quantile(numbers, [beyond, 1 - beyond])
    return float(low), float(high)


def is_above(resampled: Floats) -> bool:
    """Whether the whole interval of a difference lies above zero."""
    return interval(resampled)[0] > 0
