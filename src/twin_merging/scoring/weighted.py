"""The metrics once more, as functions of how often each row counts: a bootstrap scores thousands of resamples by them.

For rows that all count once they are `twin_merging.scoring.metrics.score`, and for others they are that function of the
rows written out as often as they count. They stand in a file of their own so that a change here makes no fine-tuning
stale, which chooses epochs by the metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from twin_merging.scoring.metrics import text_values
from twin_merging.scoring.texts import TEXT_METRICS

Floats = npt.NDArray[np.float64]
# Counts of rows (n, resamples) in, scores (models, resamples) out.
Weighted = Callable[[Floats], Floats]


def weighted_metric(metric: str, outputs: Sequence[Sequence[Any]], references: Sequence[Any]) -> Weighted:
    """A metric of several models' answers to the same rows, as a function of how often each row counts.

    outputs: for each model what it answered to every row; references: as for `metrics.score`.
    """
    if metric in TEXT_METRICS:
        return _mean(np.array([text_values(metric, answers, references) for answers in outputs], dtype=float))
    return FORMS[metric](np.array(outputs, dtype=float), np.array(references, dtype=float))


def _mean(values: Floats) -> Weighted:
    """The mean of values (models, n) of the rows."""
    return lambda weights: values @ weights / weights.sum(0)


def _accuracy(outputs: Floats, references: Floats) -> Weighted:
    return _mean((outputs == references).astype(float))


def _matthews(outputs: Floats, references: Floats) -> Weighted:
    """Matthews correlation from the counts of a confusion matrix: of right rows, of rows of each label, and of rows
    that were given each label. 0 where a side has one label alone. Source: Gorodkin 2004, equation 8."""
    labels = np.unique(np.concatenate([outputs.ravel(), references]))
    right = (outputs == references).astype(float)
    given = (outputs[:, None] == labels[:, None]).astype(float)
    true = (references == labels[:, None]).astype(float)

    def score(weights: Floats) -> Floats:
        total, own = weights.sum(0), true @ weights
        chosen = (given.reshape(-1, given.shape[-1]) @ weights).reshape(*given.shape[:2], -1)
        covariance = (right @ weights) * total - (chosen * own).sum(1)
        variances = (total**2 - (chosen**2).sum(1)) * (total**2 - (own**2).sum(0))
        return _divided(covariance, np.sqrt(variances))

    return score


def _accuracy_f1(outputs: Floats, references: Floats) -> Weighted:
    """Mean of accuracy and F1 of label 1: twice the rows that are 1 on both sides, over those that are on either. 0
    where there are none."""
    right, given = (outputs == references).astype(float), (outputs == 1).astype(float)
    true = (references == 1).astype(float)

    def score(weights: Floats) -> Floats:
        f1 = _divided(2 * ((given * true) @ weights), given @ weights + true @ weights)
        return (right @ weights / weights.sum(0) + f1) / 2

    return score


def _pearson_spearman(outputs: Floats, references: Floats) -> Weighted:
    """Mean of the two correlations; 0 where a side is constant, which its ranks say exactly."""
    groups, own = [_Ranked(values) for values in outputs], _Ranked(references)
    given, true = outputs - outputs.mean(1, keepdims=True), references - references.mean()
    products = [np.vstack(part) for part in ([true, true**2], given, given**2, given * true)]

    def score(weights: Floats) -> Floats:
        total = weights.sum(0)
        (sum_y, sum_yy), sum_x, sum_xx, sum_xy = (part @ weights / total for part in products)
        pearson = _divided(sum_xy - sum_x * sum_y, _root(sum_xx - sum_x**2) * _root(sum_yy - sum_y**2))
        spearman, spread = np.empty_like(pearson), np.empty_like(pearson)
        ranks, spread_y = own.centred(weights)
        ranked = weights * ranks[own.group]
        for model, group in enumerate(groups):
            ranks, spread_x = group.centred(weights)
            spread[model] = spread_x * spread_y
            spearman[model] = np.einsum("gc,gc->c", ranks, group.sums(ranked))
        found = np.clip(pearson, -1, 1) + np.clip(_divided(spearman, np.sqrt(spread)), -1, 1)
        return np.where(spread > 0, found / 2, 0.0)

    return score


class _Ranked:
    """Rows in the order of their values, rows of equal values in one group."""

    def __init__(self, values: Floats) -> None:
        found, self.group = np.unique(values, return_inverse=True)
        self.order = np.argsort(self.group, kind="stable")
        self.starts = np.searchsorted(self.group[self.order], np.arange(len(found)))
        self.tied = len(found) < len(values)

    def sums(self, rows: Floats) -> Floats:
        """Sums (groups, c) of numbers (n, c) over the rows of each group."""
        ordered = rows[self.order]
        return np.add.reduceat(ordered, self.starts, axis=0) if self.tied else ordered

    def centred(self, weights: Floats) -> tuple[Floats, Floats]:
        """Each group's rank (groups, c) less the mean rank, and the sum (c,) of their squares over all rows. Rows of
        one group share the mean of their ranks."""
        counts = self.sums(weights)
        ranks = np.cumsum(counts, axis=0)
        ranks -= counts / 2
        ranks -= weights.sum(0) / 2
        return ranks, np.einsum("gc,gc,gc->c", counts, ranks, ranks)


def _root(variances: Floats) -> Floats:
    return np.sqrt(np.maximum(variances, 0.0))


def _divided(over: Floats, under: Floats) -> Floats:
    """0 where there is nothing to divide by."""
    return np.divide(over, under, out=np.zeros_like(over), where=under > 0)


# The form of each metric that is no mean over rows of texts. Beside TEXT_METRICS, every metric has one here.
FORMS: dict[str, Callable[[Floats, Floats], Weighted]] = {
    "accuracy": _accuracy,
    "matthews_correlation": _matthews,
    "accuracy_f1": _accuracy_f1,
    "pearson_spearman": _pearson_spearman,
}
