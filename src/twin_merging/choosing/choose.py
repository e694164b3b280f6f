"""Stage choose: tries every candidate of a method on validation rows, and writes which one is best.

A candidate's score of a task is normalised as in the tables, 100 x its score / the expert's, on validation rows; its
average is over the tasks whose experts score more than 0. The best average wins, of equal ones the first candidate.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from twin_merging.choosing.best import best_of, normalised
from twin_merging.choosing.validation import ValidationRows
from twin_merging.errors import UserError
from twin_merging.io.files import write_json
from twin_merging.jobs.progress import Progress
from twin_merging.merging.choices import Values, candidates_of, choices_in, described, filled
from twin_merging.merging.options import coefficients
from twin_merging.merging.registry import Method
from twin_merging.model.twin import TwinModel

log = logging.getLogger(__name__)


class Candidates(Protocol):
    """What makes a model of each candidate, one at a time."""

    @property
    def place(self) -> Path: ...
    @property
    def tokenizer(self) -> Path: ...
    def models(self, candidates: Sequence[Values]) -> Iterator[tuple[int, TwinModel]]: ...


def choose(
    *,
    name: str,
    method: Method,
    entry: Mapping[str, Any],
    candidates: Candidates,
    rows: ValidationRows,
    experts: Mapping[str, float],
    head: str,
    output: Path,
) -> None:
    """Write what was tried for a method and what was chosen, as JSON.

    name, entry: the method's in its suite, with its choices; candidates: makes the models; experts: each expert's score
    on its own task's validation rows; head: `oracle` or `routed`. Raises UserError where no expert scores more than 0.
    """
    if not any(experts[task] > 0 for task in rows.views):
        raise UserError(
            f"methods.{name}: no expert scores more than 0 on its validation rows, so no candidate has a normalised "
            "score; give numbers in the place of the choice"
        )
    choices = choices_in(entry)
    tried = candidates_of(choices)
    shutil.rmtree(candidates.place, ignore_errors=True)
    candidates.place.mkdir(parents=True)
    try:
        scores = _scores(tried, candidates, rows, experts, head)
    finally:
        shutil.rmtree(candidates.place, ignore_errors=True)
    best = best_of([one["average"] for one in scores])
    log.info("chose %s: average %.4f", described(tried[best]), scores[best]["average"])
    options = filled(entry, tried[best])
    linear = coefficients(method, options, list(rows.views)) if "lora_space" in options else None
    write_json(output, {
        "name": name,
        "method": method.name,
        "split": "validation",
        "rows": rows.counts,
        "options": choices,
        "chosen": tried[best],
        "average": scores[best]["average"],
        "of equal averages": "the first candidate",
        "metrics": rows.metrics,
        "experts": {task: experts[task] for task in rows.views},
        "candidates": [{"values": values, **found} for values, found in zip(tried, scores, strict=True)],
        **({} if linear is None else {"coefficients": linear}),
    })  # fmt: skip


def _scores(
    tried: Sequence[Values],
    candidates: Candidates,
    rows: ValidationRows,
    experts: Mapping[str, float],
    head: str,
) -> list[dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    progress = Progress(len(tried), "candidates")
    progress.update(0)
    for number, model in candidates.models(tried):
        scores = rows.scores(model, candidates.tokenizer, head)
        shares, average = normalised(scores, experts)
        found[number] = {"scores": scores, "normalised": shares, "average": average}
        log.info("%s: average %.4f", described(tried[number]), average)
        progress.update(len(found))
        del model  # before the next one is loaded, where each candidate is
    return [found[number] for number in range(len(tried))]
