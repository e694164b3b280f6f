"""Scores of theta_s + a v_1 + b v_2 on two tasks, for every a and b of a grid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from twin_merging.checkpoints.tokenizers import load_tokenizer
from twin_merging.io.files import whole_file
from twin_merging.model.twin import TwinModel
from twin_merging.prediction.answers import WaitingRows, answered, waiting_rows
from twin_merging.prediction.files import references_of, stored_row
from twin_merging.routing.fixed import GivenWeights
from twin_merging.scoring.metrics import score
from twin_merging.tasks.rows import read_rows
from twin_merging.tasks.task import Answers


def score_plane(
    model: TwinModel,
    *,
    tokenizer: Path,
    data: Mapping[str, Path],
    tasks: Mapping[str, Answers],
    pair: Sequence[str],
    grid: Sequence[float],
    limit: int,
    inference: Mapping[str, int],
    metrics: Mapping[str, str],
    output: Path,
) -> None:
    """Write a line for each a and b of the grid and each of the two tasks: a, b, task, score in percent, rows.

    Each row, of the first `limit` validation rows, is answered by its own task's private parameters. The model's router
    is replaced: a weighs the exclusive vector of the first task, b that of the second, and no other is added.
    """
    rows = {task: read_rows(Path(data[task]) / "validation.parquet", limit) for task in pair}
    loaded = load_tokenizer(tokenizer)
    waiting = waiting_rows(model.config, loaded, rows, tasks, inference)
    right = references_of(rows, tasks)
    lines = []
    for a, b in ((a, b) for a in grid for b in grid):
        model.router = GivenWeights(model.tasks, {pair[0]: a, pair[1]: b})
        outputs = pd.Series(list(_outputs(model, loaded, waiting)))
        for task in pair:
            own = (right["task"] == task).to_numpy()
            value = score(metrics[task], outputs[own].tolist(), right.loc[own, "reference"].tolist())
            lines.append((a, b, task, f"{100 * value:.4f}", int(own.sum())))
    table = pd.DataFrame(lines, columns=["a", "b", "task", "score", "rows"])
    with whole_file(output) as partial:
        table.to_csv(partial, index=False)


def _outputs(model: TwinModel, tokenizer: Any, waiting: WaitingRows) -> Iterator[Any]:
    """The answer to each row in their order, as it is stored."""
    found: dict[int, Any] = {}
    for number, answers in answered(model, tokenizer, waiting, "oracle"):
        for place, answer in zip(waiting.batches[number], answers, strict=True):
            found[place] = stored_row(waiting.rows[place], answer)["output"]
    return (found[place] for place in range(len(waiting.rows)))
