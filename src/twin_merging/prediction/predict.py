"""Stage predict: what a model answers to the test rows of every task of its suite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from twin_merging.checkpoints.experts import Expert
from twin_merging.checkpoints.tokenizers import load_tokenizer
from twin_merging.io.files import whole_file
from twin_merging.io.weights import open_directory
from twin_merging.jobs.progress import Progress
from twin_merging.model.twin import TwinModel, class_of
from twin_merging.tasks.lengths import longest, warn_of_cut
from twin_merging.tasks.rows import batches, collate, read_rows
from twin_merging.tasks.task import Answers

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ["task", "row", "output", "reference", "weights"]


def load_merged(directory: Path) -> TwinModel:
    """A merged model, to be evaluated in fp32."""
    return TwinModel.from_pretrained(directory, dtype="float32")


def load_unmerged(
    family: str, base: Path, experts: Mapping[str, Path], tasks: Mapping[str, Answers], body: str | None
) -> TwinModel:
    """The base (body None), or one task's expert, with every task's own head on it.

    experts: their directories by task; tasks: how each task's rows are answered, by the family's models.
    """
    start = open_directory(base)
    opened = {task: Expert(experts[task], start) for task in tasks}
    return class_of(family).unmerged(base, opened, tasks, body)


def predict(
    model: TwinModel,
    tokenizer: Path,
    data: Mapping[str, Path],
    tasks: Mapping[str, Answers],
    limit: int | None,
    inference: Mapping[str, int],
    head: str,
    output: Path,
) -> None:
    """Write a row for each of the first `limit` test rows of every task: task, row, output, reference, weights.

    data: each task's folder of parquet files; tasks: how its rows are read and answered. Rows of all tasks are answered
    in mixed batches. head: `oracle` gives each row its true task's private parameters, `routed` lets the router choose.
    output is what the task stores of an answer; weights are the router's, in the suite's order of tasks (null for a
    model without a router).
    """
    rows = test_rows(data, limit)
    answers = answer_rows(model, tokenizer, rows, tasks=tasks, inference=inference, head=head)
    write_predictions(rows, tasks, answers, output)


def test_rows(data: Mapping[str, Path], limit: int | None) -> dict[str, pd.DataFrame]:
    """The first `limit` test rows of every task."""
    return {task: read_rows(Path(folder) / "test.parquet", limit) for task, folder in data.items()}


class RowAnswer(NamedTuple):
    """answer: what the family's model gives for a row; weights: the router's (T,), None without a router."""

    answer: Any
    weights: list[float] | None


def answer_rows(
    model: TwinModel,
    tokenizer: Path,
    rows: Mapping[str, pd.DataFrame],
    tasks: Mapping[str, Answers],
    inference: Mapping[str, int],
    head: str,
) -> list[RowAnswer]:
    """Answers to the rows of every task, in their order, in mixed batches of near lengths. Moves the model to a GPU
    where there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)
    loaded = load_tokenizer(tokenizer)
    names = [task for task, table in rows.items() for _ in range(len(table))]
    new = max((tasks[task].new_tokens for task in rows), default=0)  # rows of several tasks are answered together
    limit = longest(inference["max_length"], model.config, loaded, new=new)
    examples = []
    for task, table in rows.items():
        encoded = tasks[task].encode(table, loaded, limit)
        warn_of_cut(task, encoded, limit)
        examples += encoded
    found: dict[int, RowAnswer] = {}
    progress = Progress(len(examples), "rows")
    for positions in batches(examples, inference["batch_size"]):
        batch = collate([examples[position] for position in positions], loaded, model.padding_side).to(device)
        own = [names[position] for position in positions]
        answers, mixed = model.answer_batch(
            batch, loaded, [tasks[task] for task in own], own if head == "oracle" else None
        )
        weights = [None] * len(positions) if mixed is None else mixed.float().cpu().tolist()
        found |= {p: RowAnswer(*row) for p, *row in zip(positions, answers, weights, strict=True)}
        progress.update(len(found))
    return [found[position] for position in range(len(examples))]


def write_predictions(
    rows: Mapping[str, pd.DataFrame], tasks: Mapping[str, Answers], answers: Sequence[RowAnswer], output: Path
) -> None:
    """Write the answers to the rows of every task, beside what is right."""
    import pandas as pd

    table = references_of(rows, tasks)
    table["output"] = [tasks[task].output_of(row.answer) for task, row in zip(table["task"], answers, strict=True)]
    table["weights"] = pd.Series([row.weights for row in answers], dtype=object)
    with whole_file(output) as partial:
        table[COLUMNS].to_parquet(partial, index=False)


def references_of(rows: Mapping[str, pd.DataFrame], tasks: Mapping[str, Answers]) -> pd.DataFrame:
    """task, row and reference of the rows of every task."""
    import pandas as pd

    parts = [
        pd.DataFrame({"task": task, "row": range(len(table)), "reference": tasks[task].references(table).to_numpy()})
        for task, table in rows.items()
    ]
    return pd.concat(parts, ignore_index=True)
