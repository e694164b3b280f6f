"""Stage score: metrics of every model's predictions.

The metrics are the functions of `twin_merging.scoring.metrics`. `suite_metric.py` offers the same functions to users of
the library `evaluate`; importing that library would take longer than all scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from twin_merging.io.files import whole_file
from twin_merging.scoring.metrics import score

MODULE = Path(__file__).with_name("suite_metric.py")  # for `evaluate.load(str(MODULE), "accuracy")`
COLUMNS = ["model", "task", "metric", "value", "rows", "protocol"]


def score_predictions(
    predictions: Mapping[str, Path],
    metrics: Mapping[str, str],
    protocols: Mapping[str, str],
    output: Path,
    evaluated: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Write a line for each model and task: model, task, metric, value (-1 or 0 to 1), rows, protocol.

    evaluated: the tasks of each model that does not answer all.
    """
    with whole_file(output) as partial:
        score_table(predictions, metrics, protocols, evaluated).to_csv(partial, index=False)


def score_table(
    predictions: Mapping[str, Path],
    metrics: Mapping[str, str],
    protocols: Mapping[str, str],
    evaluated: Mapping[str, Sequence[str]] | None = None,
) -> pd.DataFrame:
    """The lines of scores.csv."""
    lines = []
    for model, path in predictions.items():
        table = pd.read_parquet(path)
        for task in (evaluated or {}).get(model, metrics):
            metric = metrics[task]
            rows = table[table["task"] == task]
            value = score(metric, rows["output"].tolist(), rows["reference"].tolist())
            lines.append((model, task, metric, value, len(rows), protocols[model]))
    return pd.DataFrame(lines, columns=COLUMNS)
