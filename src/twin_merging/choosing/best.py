"""Which candidate is best, from its scores and the experts'."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def best_of(averages: Sequence[float]) -> int:
    """The place of the largest number; of equal ones the first. What is no number is never the largest."""
    return max(range(len(averages)), key=lambda place: -math.inf if math.isnan(averages[place]) else averages[place])


def normalised(scores: Mapping[str, float], experts: Mapping[str, float]) -> tuple[dict[str, float | None], float]:
    """Each task's normalised score in percent (None where the expert scores 0 or less), and the average."""
    found = {task: 100 * value / experts[task] if experts[task] > 0 else None for task, value in scores.items()}
    counted = [value for value in found.values() if value is not None]
    return found, math.fsum(counted) / len(counted)
