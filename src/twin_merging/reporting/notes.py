"""What is said with a suite's tables: scale, rows, protocol, what a model is told of the task, and how sure a number
is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from twin_merging.reporting.cells import Intervals
from twin_merging.reporting.normalisation import AVERAGE, NORMALISED
from twin_merging.scoring.bootstrap import LEVEL, RESAMPLES

TOLD = "`true task` says what a model was told of the task that a row comes from: its head, its biases, or nothing."
UNITS = "Correlations are x 100."


def on_rows(rows: pd.Series) -> str:
    """How many test rows tasks have. rows: of each task."""
    counts = sorted(set(rows))
    return f"{counts[0]} to {counts[-1]} rows a task" if len(counts) > 1 else f"{counts[0]} rows a task"


def scale_note(scale: str, rows: pd.Series) -> str:
    if scale == NORMALISED:
        return f"Normalised scores: 100 x a model's score / the expert's score on the same test rows ({on_rows(rows)})."
    return f"Absolute scores, in percent, on the same test rows ({on_rows(rows)}). {UNITS}"


def experts_note(rows: pd.Series) -> str:
    return (
        f"Every expert (row) on every task (column), by the task's own head: absolute scores, in percent "
        f"({on_rows(rows)}). {UNITS}"
    )


def protocol_note(protocols: Mapping[str, Mapping[str, str]]) -> str:
    """protocols: of each, what becomes of each group of parameters: `merge`, `expert` or `base`."""
    said = [f"{name}: {_unmerged(groups)}" for name, groups in protocols.items()]
    return f"`protocol` says what of a model is each task's own and not merged ({'; '.join(said)})." if said else ""


def _unmerged(groups: Mapping[str, str]) -> str:
    own, kept = ([group for group, what in groups.items() if what == one] for one in ("expert", "base"))
    return (" and ".join(own) or "nothing") + (f", with {', '.join(kept)} as in the base" if kept else "")


def interval_note(how: str, told_more: Sequence[str], shown: tuple[str, str]) -> str:
    """how: where an interval stands; told_more: rows that compete with no other; shown: how best and second are."""
    best, second = shown
    left_out = f" ({', '.join(told_more)}: told more than private parameters, so not among them)" if told_more else ""
    return (
        f"{how}: {LEVEL:.0%} interval of a paired bootstrap over test rows ({RESAMPLES:,} resamples, percentiles; the "
        f"expert's score is resampled with the model's). {best}: the best merged row; {second}: the second{left_out}; "
        "each only where the interval of its difference to the next one leaves out zero."
    )


def difference_note(scale: str, intervals: Intervals) -> str:
    """With which row the averages are compared."""
    found = intervals.best_static(scale)
    if not found:
        return ""
    first, *others = sorted(found, key=lambda than: -len(found[than]))
    more = "; ".join(f"of {', '.join(found[than])} less that of {than}" for than in others)
    return f"`difference`: `avg` less that of {first}, the best static row{f' ({more})' if more else ''}."


def no_score_note(normalised: pd.DataFrame) -> str:
    left_out = [task for task in normalised.columns if task != AVERAGE and normalised[task].isna().all()]
    if not left_out:
        return ""
    if len(left_out) == len(normalised.columns.drop(AVERAGE, errors="ignore")):
        return "No normalised score for any task: every expert scores 0 or less."
    return f"No normalised score for {', '.join(left_out)}: the expert scores 0 or less; `avg` leaves it out."


def sentences(*notes: str) -> str:
    return " ".join(note for note in notes if note)
