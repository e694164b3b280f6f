"""Stage score: metrics of every model's predictions, through `evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import evaluate
import pandas as pd

from twin_merging.files import whole_file
from twin_merging.metrics import functions

MODULE = Path(functions.__file__).with_name("suite_metric.py")
COLUMNS = ["model", "task", "metric", "value", "rows", "protocol"]


def score_predictions(
    predictions: Mapping[str, Path], metrics: Mapping[str, str], protocols: Mapping[str, str], output: Path
) -> None:
    """Write a line for each model and task: model, task, metric, value (-1 or 0 to 1), rows, protocol."""
    loaded = {metric: evaluate.load(str(MODULE), metric) for metric in sorted(set(metrics.values()))}
    lines = []
    for model, path in predictions.items():
        table = pd.read_parquet(path)
        for task, metric in metrics.items():
            rows = table[table["task"] == task]
            result = loaded[metric].compute(predictions=rows["output"].tolist(), references=rows["reference"].tolist())
            lines.append((model, task, metric, result[metric], len(rows), protocols[model]))
    with whole_file(output) as partial:
        pd.DataFrame(lines, columns=COLUMNS).to_csv(partial, index=False)
