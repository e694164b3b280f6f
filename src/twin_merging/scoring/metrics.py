"""The metrics of the suites, as numbers from -1 or 0 to 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from twin_merging.scoring.texts import TEXT_METRICS

METRICS = ("accuracy", "matthews_correlation", "accuracy_f1", "pearson_spearman", *TEXT_METRICS)


def score(metric: str, outputs: Sequence[Any], references: Sequence[Any]) -> float:
    """One metric of what was answered (labels, values of a regression, or texts) against what is right: of a text's row
    one text, or several of which each is right."""
    if metric in TEXT_METRICS:
        values = text_values(metric, outputs, references)
        return sum(values) / len(values)
    return _FUNCTIONS[metric](np.asarray(outputs, dtype=float), np.asarray(references, dtype=float))


def text_values(metric: str, outputs: Sequence[str], references: Sequence[Any]) -> list[float]:
    """The value of each row by a metric of texts, of which the metric is the mean. references: as for `score`."""
    texts = [[one] if isinstance(one, str) else list(one) for one in references]
    return TEXT_METRICS[metric](outputs, texts)


def _accuracy(outputs: np.ndarray, references: np.ndarray) -> float:
    return float((outputs == references).mean())


def _matthews(outputs: np.ndarray, references: np.ndarray) -> float:
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(references, outputs))


def _accuracy_f1(outputs: np.ndarray, references: np.ndarray) -> float:
    """Mean of accuracy and the F1 score of label 1; every other label counts as not 1."""
    from sklearn.metrics import f1_score

    f1 = f1_score(references == 1, outputs == 1, zero_division=0.0)
    return (_accuracy(outputs, references) + float(f1)) / 2


def _pearson_spearman(outputs: np.ndarray, references: np.ndarray) -> float:
    """Mean of the two correlations; 0 when one side is constant."""
    from scipy.stats import pearsonr, spearmanr

    if np.ptp(outputs) == 0 or np.ptp(references) == 0:
        return 0.0
    pearson = float(pearsonr(outputs, references).statistic)
    return (pearson + float(spearmanr(outputs, references).statistic)) / 2


_FUNCTIONS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": _accuracy,
    "matthews_correlation": _matthews,
    "accuracy_f1": _accuracy_f1,
    "pearson_spearman": _pearson_spearman,
}
