"""Validation rows of a suite's tasks, and how well a model answers them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin_merging.checkpoints.tokenizers import load_tokenizer
from twin_merging.errors import UserError
from twin_merging.io.files import read_json, write_json
from twin_merging.model.twin import TwinModel
from twin_merging.prediction.answers import WaitingRows, answered, waiting_rows
from twin_merging.scoring.metrics import score
from twin_merging.tasks.rows import read_rows
from twin_merging.tasks.task import Answers

if TYPE_CHECKING:
    import pandas as pd


class ValidationRows:
    """The first `limit` validation rows of every task (all where None).

    data: each task's folder of parquet files; views: how its rows are read and answered; metrics: how answers are
    scored. Rows are tokenised once, for the first model that answers them. Raises UserError for a task without rows.
    """

    def __init__(
        self,
        data: Mapping[str, Path],
        views: Mapping[str, Answers],
        metrics: Mapping[str, str],
        limit: int | None,
        inference: Mapping[str, int],
    ):
        self.views, self.metrics, self.inference = dict(views), dict(metrics), inference
        self.rows = {task: _rows(Path(data[task]), limit) for task in self.views}
        self._waiting: WaitingRows | None = None

    @property
    def counts(self) -> dict[str, int]:
        """How many rows each task has."""
        return {task: len(table) for task, table in self.rows.items()}

    @cached_property
    def references(self) -> dict[str, list[Any]]:
        return {task: self.views[task].references(table).tolist() for task, table in self.rows.items()}

    def scores(self, model: TwinModel, tokenizer: Path, head: str) -> dict[str, float]:
        """Each task's metric of a model's answers. head: `oracle` or `routed`, as in stage predict; tokenizer: the
        directory that holds the model's."""
        loaded = load_tokenizer(tokenizer)
        if self._waiting is None:
            self._waiting = waiting_rows(model.config, loaded, self.rows, self.views, self.inference)
        waiting = self._waiting
        outputs: list[Any] = [None] * len(waiting.rows)
        for number, answers in answered(model, loaded, waiting, head):
            for place, answer in zip(waiting.batches[number], answers, strict=True):
                row = waiting.rows[place]
                outputs[place] = row.view.stored(answer.answer, row.choices)["output"]
        found: dict[str, list[Any]] = {task: [] for task in self.views}
        for row, output in zip(waiting.rows, outputs, strict=True):
            found[row.task].append(output)
        return {task: score(self.metrics[task], found[task], self.references[task]) for task in self.views}


def _rows(folder: Path, limit: int | None) -> pd.DataFrame:
    file = folder / "validation.parquet"
    rows = read_rows(file, limit)
    if rows.empty:
        raise UserError(f"{file}: holds no validation rows to choose on; give the task's data a validation split")
    return rows


def write_expert_score(task: str, rows: ValidationRows, model: TwinModel, tokenizer: Path, output: Path) -> None:
    """Write the score of a task's expert on the task's own validation rows. model: the expert."""
    value = rows.scores(model, tokenizer, "oracle")[task]
    write_json(output, {"task": task, "metric": rows.metrics[task], "score": value, "rows": rows.counts[task]})


def expert_scores(files: Iterable[Path]) -> dict[str, float]:
    """Each expert's score, by its task."""
    return {found["task"]: found["score"] for found in map(read_json, files)}
