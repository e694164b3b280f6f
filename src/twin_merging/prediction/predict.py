"""Stage predict: what a model answers to the test rows of every task of its suite."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin_merging.checkpoints.experts import Expert
from twin_merging.checkpoints.tokenizers import load_tokenizer
from twin_merging.io.weights import open_directory
from twin_merging.model.twin import TwinModel, class_of
from twin_merging.prediction.answers import answered, waiting_rows
from twin_merging.prediction.files import stored_row, write_predictions
from twin_merging.prediction.parts import Parts
from twin_merging.prediction.shards import Gathered, Shard, of_shard, write_shard
from twin_merging.tasks.rows import read_rows
from twin_merging.tasks.task import Answers

if TYPE_CHECKING:
    import pandas as pd


def load_merged(directory: Path, dtype: str = "float32") -> TwinModel:
    """A merged model, to be evaluated in a dtype, whatever it is stored in."""
    return TwinModel.from_pretrained(directory, dtype=dtype)


def load_unmerged(
    family: str,
    base: Path,
    experts: Mapping[str, Path],
    tasks: Mapping[str, Answers],
    body: str | None,
    dtype: str = "float32",
) -> TwinModel:
    """The base (body None), or one task's expert, with every task's own head on it.

    experts: their directories by task; tasks: how each task's rows are answered, by the family's models; dtype: what
    the model is evaluated in, whatever it is stored in.
    """
    start = open_directory(base)
    opened = {task: Expert(experts[task], start) for task in tasks}
    return class_of(family).unmerged(base, opened, tasks, body, dtype)


def predict(
    model: TwinModel,
    tokenizer: Path,
    data: Mapping[str, Path],
    tasks: Mapping[str, Answers],
    limit: int | None,
    inference: Mapping[str, int],
    head: str,
    output: Path,
    columns: Mapping[str, Any] | None = None,
    parts: Parts | None = None,
    sample: str | None = None,
    shard: Shard | None = None,
) -> None:
    """Write a row for each of the first `limit` test rows of every task, or of so many as `sample` draws: task, row,
    output, reference, weights, and the family's `columns`.

    data: each task's folder of parquet files; tasks: how its rows are read and answered. Rows of all tasks are answered
    in mixed batches. head: `oracle` gives each row its true task's private parameters, `routed` lets the router choose.
    output is what the task stores of an answer; weights are the router's, in the suite's order of tasks (null for a
    model without a router). parts: keeps what is answered when the job is interrupted, and the next one goes on from
    there; the bytes that are written are the same. shard: answer its batches alone, and write them as `gather` reads
    them.
    """
    rows, loaded = test_rows(data, limit, sample), load_tokenizer(tokenizer)
    waiting = waiting_rows(model.config, loaded, rows, tasks, inference)
    kept = Parts.none() if parts is None else parts
    asked = range(len(waiting.batches)) if shard is None else of_shard(waiting, shard)
    for number, answers in answered(model, loaded, waiting, head, but=kept.batches, asked=asked):
        places = waiting.batches[number]
        stored = [stored_row(waiting.rows[place], answer) for place, answer in zip(places, answers, strict=True)]
        kept.add(number, stored)
    if shard is not None:  # its parts stay: they lie among those of the other shards
        write_shard(waiting, {number: kept.batches[number] for number in asked}, output)
        return
    found: dict[int, dict[str, Any]] = {}
    for number, places in enumerate(waiting.batches):
        found |= zip(places, kept.batches[number], strict=True)
    write_predictions(rows, tasks, [found[place] for place in range(len(waiting.rows))], columns or {}, output)
    kept.remove()


def gather(
    gathered: Gathered,
    data: Mapping[str, Path],
    tasks: Mapping[str, Answers],
    limit: int | None,
    output: Path,
    columns: Mapping[str, Any] | None = None,
    sample: str | None = None,
) -> None:
    """Write what `predict` writes, from what shards have answered, all batches in all. No model is loaded."""
    write_predictions(test_rows(data, limit, sample), tasks, gathered.rows(), columns or {}, output)


def test_rows(data: Mapping[str, Path], limit: int | None, sample: str | None) -> dict[str, pd.DataFrame]:
    """The first `limit` test rows of every task, or so many as `sample` draws them."""
    return {task: read_rows(Path(folder) / "test.parquet", limit, sample) for task, folder in data.items()}
