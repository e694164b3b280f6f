"""Scores of each task's validation rows under each task's exclusive vector alone (twin_merging.routing.expected)."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from twin_merging.choosing.choose import Candidates
from twin_merging.choosing.validation import ValidationRows
from twin_merging.io.files import write_json
from twin_merging.jobs.progress import Progress
from twin_merging.routing.expected import gains_of
from twin_merging.routing.fixed import GivenWeights

log = logging.getLogger(__name__)


def cross_scores(*, name: str, candidates: Candidates, rows: ValidationRows, head: str, output: Path) -> None:
    """Write the scores of a method's model, S[t, u] of task t's rows under the vector of task u, as JSON.

    candidates: makes the model; head: with `oracle` a row is answered by its own task's private parameters, with
    `routed` by those of the task whose vector answers. T tasks take T passes over the rows of all.
    """
    shutil.rmtree(candidates.place, ignore_errors=True)
    candidates.place.mkdir(parents=True)
    try:
        ((_, model),) = candidates.models([{}])
        found: Any = {task: {} for task in rows.views}
        progress = Progress(len(found), "vectors")
        progress.update(0)
        for number, route in enumerate(found, start=1):
            model.router = GivenWeights(model.tasks, {route: 1.0})
            scores = rows.scores(model, candidates.tokenizer, route if head == "routed" else head)
            for task, score in scores.items():
                found[task][route] = score
            log.info("by the vector of %s: %s", route, ", ".join(f"{task} {one:.4f}" for task, one in scores.items()))
            progress.update(number)
    finally:
        shutil.rmtree(candidates.place, ignore_errors=True)
    write_json(output, {
        "name": name,
        "split": "validation",
        "rows": rows.counts,
        "metrics": rows.metrics,
        "head": head,
        "scores": found,
        "gains": dict(zip(found, gains_of(found, list(found)), strict=True)),
    })  # fmt: skip
