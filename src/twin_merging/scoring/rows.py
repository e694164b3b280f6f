"""How good each single answer is, for what shows rows and not scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twin_merging.scoring.metrics import text_values
from twin_merging.scoring.texts import TEXT_METRICS

# Metrics of which a row is not right or wrong, but better or worse.
BY_DEGREES = ("pearson_spearman", "rouge2")


def row_grades(metric: str, outputs: Sequence[Any], references: Sequence[Any]) -> list[float]:
    """A number for each row, the larger the better: 1 where it is right and 0 where not; for metrics `BY_DEGREES` minus
    the distance of two values, or the text's own score."""
    if metric in TEXT_METRICS:
        return text_values(metric, outputs, references)
    pairs = [(float(output), float(reference)) for output, reference in zip(outputs, references, strict=True)]
    if metric in BY_DEGREES:
        return [-abs(output - reference) for output, reference in pairs]
    return [float(output == reference) for output, reference in pairs]
