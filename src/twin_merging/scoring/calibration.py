"""How far mixing weights are from shares of right answers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

BINS = 15


def expected_calibration_error(weights: npt.NDArray[np.floating], true: npt.NDArray[np.integer]) -> float:
    """sum_b n_b / n |accuracy_b - confidence_b|, over 15 bins of equal width ((b - 1) / 15, b / 15].

    weights (n, T); true (n,): each row's own task. A row's confidence is its largest weight, and it is right where that
    is its own task's (of equal ones the first counts). Source: Guo et al. 2017, arXiv 1706.04599, equations 3 and 5.
    """
    confidence = weights.max(1).astype(np.float64)
    right = (weights.argmax(1) == true).astype(np.float64)
    bins = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    gaps = np.bincount(bins, weights=right - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(weights))
