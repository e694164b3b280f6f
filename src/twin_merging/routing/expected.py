"""Weights that minimise the expected loss: which task's exclusive vector promises the highest score for an input.

A wrong route costs more between some tasks than between others. Rows of validation data are answered by each single
task's vector, which gives S[t, u], the score of task t's rows under the vector of task u. The router says p(t | x). The
input gets weight 1 for the task u with the largest sum_t p(t | x) S[t, u] / S[t, t] (Bayes' decision of least risk:
Duda and Hart 1973, section 2.2). The division makes the metrics of different tasks comparable, as in the tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from twin_merging.errors import UserError
from twin_merging.io.files import read_json

EXPECTED_LOSS = "expected_loss"  # the value of a method's `weights`
CROSS_ROWS = 256  # validation rows of each task that are answered by every vector, at most
Gains = list[list[float]]  # (T, T)


def gains_of(scores: Mapping[str, Mapping[str, float]], tasks: Sequence[str]) -> Gains:
    """S[t, u] / S[t, t]. scores: of task t's rows (first key) under the vector of task u (second key).

    Of a task whose own vector scores 0 or less the right route gains 1, and no other one gains anything.
    """
    found = []
    for task in tasks:
        own = scores[task][task]
        found.append([scores[task][u] / own if own > 0 else float(u == task) for u in tasks])
    return found


def read_gains(file: Path, tasks: Sequence[str]) -> Gains:
    """The gains in a file of stage choose. Raises UserError for one that is not of these tasks."""
    scores = read_json(Path(file)).get("scores")
    if not isinstance(scores, dict) or list(scores) != list(tasks):
        raise UserError(f"{file}: holds no scores of {', '.join(tasks)} under each task's vector; remove the file")
    return gains_of(scores, tasks)
