"""Stage predict: what a model answers to the test rows of every task of its suite."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from transformers import AutoTokenizer

from twin_merging.checkpoints.experts import Expert
from twin_merging.checkpoints.groups import PROTOCOLS
from twin_merging.io.files import whole_file
from twin_merging.io.tensors import open_directory
from twin_merging.jobs.progress import Progress
from twin_merging.model.loading import load_body
from twin_merging.model.twin import TwinForSequenceClassification, TwinModel
from twin_merging.tasks.rows import LABEL, batches, collate, encode, read_rows

if TYPE_CHECKING:
    import pandas as pd


def unmerged_model(
    base: Path, experts: Mapping[str, Path], labels: Mapping[str, int], body: str | None
) -> TwinForSequenceClassification:
    """The base's body (body None), or that of one task's expert, with every task's own head on it."""
    start = open_directory(base)
    opened = {task: Expert(directory, start) for task, directory in experts.items()}
    private = {task: expert.private(PROTOCOLS["strict"]) for task, expert in opened.items()}
    model = load_body(base)
    if body is not None:
        own = {name: opened[body].parameter(name).float() for name in start}
        model.load_state_dict(own, strict=False)
    return TwinForSequenceClassification(model, labels, private)


def load_evaluated(directory: Path, labels: Mapping[str, int], merged: bool, body: str | None) -> Any:
    """The model that is evaluated: a merged model's directory, or the base's, beside which the experts lie."""
    if merged:
        return TwinModel.from_pretrained(directory, dtype="float32")
    return unmerged_model(directory, {task: directory.parent / "experts" / task for task in labels}, labels, body)


def predict(
    model: TwinForSequenceClassification,
    tokenizer: Path,
    data: Mapping[str, Path],
    text: Mapping[str, list[str]],
    limit: int | None,
    inference: Mapping[str, int],
    head: str,
    output: Path,
) -> None:
    """Write a row for each of the first `limit` test rows of every task: task, row, output, reference, weights.

    Rows of all tasks are answered in mixed batches. head: `oracle` gives each row its true task's private parameters,
    `routed` lets the router choose. output is the predicted label, or value for a regression; weights are the
    router's, in the suite's order of tasks (null for a model without a router).
    """
    import pandas as pd

    rows = {task: read_rows(Path(folder) / "test.parquet", limit) for task, folder in data.items()}
    table = pd.concat([_frame(task, table) for task, table in rows.items()], ignore_index=True)
    answers = answer_rows(model, tokenizer, rows, text, inference, head)
    labels = [model.labels[task] for task in table["task"]]
    table["output"] = [output_of(row.logits, count) for row, count in zip(answers, labels, strict=True)]
    table["weights"] = pd.Series([row.weights for row in answers], dtype=object)
    with whole_file(output) as partial:
        table[["task", "row", "output", "reference", "weights"]].to_parquet(partial, index=False)


class RowAnswer(NamedTuple):
    """logits: (largest label count,), -inf where the row's head is smaller; weights: (T,), None without a router."""

    logits: torch.Tensor
    weights: list[float] | None


def answer_rows(
    model: TwinForSequenceClassification,
    tokenizer: Path,
    rows: Mapping[str, pd.DataFrame],
    text: Mapping[str, list[str]],
    inference: Mapping[str, int],
    head: str,
) -> list[RowAnswer]:
    """Answers to the rows of every task, in their order, in mixed batches of near lengths. Moves the model to a GPU
    where there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)
    loaded = AutoTokenizer.from_pretrained(tokenizer, local_files_only=True)
    names = [task for task, table in rows.items() for _ in range(len(table))]
    examples = [
        example
        for task, table in rows.items()
        for example in encode(table, text[task], loaded, inference["max_length"])
    ]
    found: dict[int, RowAnswer] = {}
    progress = Progress(len(examples), "rows")
    with torch.inference_mode():
        for positions in batches(examples, inference["batch_size"]):
            batch = collate([examples[position] for position in positions], loaded).to(device)
            tasks = [names[position] for position in positions] if head == "oracle" else None
            answer = model(**batch, tasks=tasks)
            logits = answer.logits.float().cpu()
            weights = [None] * len(positions) if answer.weights is None else answer.weights.float().cpu().tolist()
            found |= {p: RowAnswer(*row) for p, *row in zip(positions, logits, weights, strict=True)}
            progress.update(len(found))
    return [found[position] for position in range(len(examples))]


def _frame(task: str, rows: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame({"task": task, "row": range(len(rows)), "reference": rows[LABEL].astype(float)})


def output_of(logits: torch.Tensor, labels: int) -> float:
    """The value of a regression, else the label of the largest logit.

    Under a routed head the answer may come from a head of another size; then it is that head's label, as it is.
    """
    return float(logits[0]) if labels == 1 else float(logits.argmax())
