"""Stage predict: what a model answers to the test rows of every task of its suite."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoTokenizer

from twin_merging.checkpoints import open_directory
from twin_merging.experts import Expert
from twin_merging.files import whole_file
from twin_merging.model.loading import load_body
from twin_merging.model.twin import TwinForSequenceClassification
from twin_merging.parameters import PROTOCOLS
from twin_merging.tasks import LABEL, batches, collate, encode, read_rows

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)


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
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)
    loaded = AutoTokenizer.from_pretrained(tokenizer, local_files_only=True)
    examples, frames = [], []
    for task, folder in data.items():
        rows = read_rows(Path(folder) / "test.parquet", limit)
        examples += encode(rows, text[task], loaded, inference["max_length"])
        frames.append(_frame(task, rows))
    import pandas as pd

    table = pd.concat(frames, ignore_index=True)
    names = table["task"].tolist()
    outputs: list[float] = [0.0] * len(table)
    weights: list[Any] = [None] * len(table)
    with torch.inference_mode():
        for done, positions in enumerate(batches(examples, inference["batch_size"])):
            batch = collate([examples[position] for position in positions], loaded).to(device)
            tasks = [names[position] for position in positions] if head == "oracle" else None
            answer = model(**batch, tasks=tasks)
            for position, logits in zip(positions, answer.logits.float().cpu(), strict=True):
                outputs[position] = _output(logits, model.labels[names[position]])
            if answer.weights is not None:
                for position, row in zip(positions, answer.weights.float().cpu().tolist(), strict=True):
                    weights[position] = row
            if done % 20 == 0:
                log.info("%d of %d rows", min((done + 1) * inference["batch_size"], len(table)), len(table))
    table["output"], table["weights"] = outputs, weights
    with whole_file(output) as partial:
        table[["task", "row", "output", "reference", "weights"]].to_parquet(partial, index=False)


def _frame(task: str, rows: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame({"task": task, "row": range(len(rows)), "reference": rows[LABEL].astype(float)})


def _output(logits: torch.Tensor, labels: int) -> float:
    """The value of a regression, else the label of the largest logit.

    Under a routed head the answer may come from a head of another size; then it is that head's label, as it is.
    """
    return float(logits[0]) if labels == 1 else float(logits.argmax())
