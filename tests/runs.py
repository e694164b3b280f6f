"""A results folder with runs in it: predictions are drawn, scored and kept as the workflow keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from twin_merging.io.files import write_json
from twin_merging.reporting.intervals import Rows, interval_table
from twin_merging.reporting.runs.snapshot import snapshot, write_snapshot
from twin_merging.scoring.score import score_predictions

# A task of each kind of rows that a run keeps of a suite of encoders.
METRICS = {
    "right": "accuracy",
    "labels": "matthews_correlation",
    "both": "accuracy_f1",
    "numbers": "pearson_spearman",
}
KINDS = {"pretrained": "none", "sum": "static", "ties": "static", "twin": "dynamic"}
MODELS = [*KINDS, *(f"expert-{task}" for task in METRICS)]
ROWS = 40
OPTIONS: dict[str, Any] = {
    "seed": 0,
    "methods": {"sum": {"method": "task_arithmetic", "scaling": 0.3}, "ties": {"method": "ties", "density": 0.1}},
}


def answers(**again: float) -> dict[str, pd.DataFrame]:
    """Predictions by model. again: of models, the share of rows that are answered otherwise than without it."""
    return {model: _of_model(number, model, again.get(model, 0.0)) for number, model in enumerate(MODELS)}


def _of_model(number: int, model: str, again: float) -> pd.DataFrame:
    draw = np.random.default_rng(number)
    parts = []
    for task, metric in METRICS.items():
        references, first, second = (_drawn(metric, own) for own in (np.random.default_rng(99), draw, draw))
        wrong = draw.random(ROWS) < (0.1 if model == f"expert-{task}" else 0.5)
        outputs = np.where(draw.random(ROWS) < again, second, np.where(wrong, first, references))
        parts.append(pd.DataFrame({"task": task, "row": range(ROWS), "output": outputs, "reference": references}))
    return pd.concat(parts, ignore_index=True)


def _drawn(metric: str, draw: np.random.Generator) -> Any:
    if metric == "pearson_spearman":
        return draw.normal(size=ROWS).astype(np.float32).astype(float)
    return draw.integers(0, 2, ROWS).astype(float)


def keep_run(
    folder: Path,
    tables: Mapping[str, pd.DataFrame],
    *,
    options: Mapping[str, Any] = OPTIONS,
    finished: str = "2026-01-02T03:04:05.678+00:00",
    code: str = "a" * 16,
    torch: str = "2.13.0",
    revision: str = "one",
) -> Path:
    """Score predictions, and keep the run as rule snapshot does, in the suite's `folder`, a relative path of two parts.
    Gives the file that names the run."""
    (folder / "predictions").mkdir(parents=True, exist_ok=True)
    predictions = {model: folder / "predictions" / f"{model}.parquet" for model in tables}
    for model, table in tables.items():
        table.to_parquet(predictions[model], index=False)
    score_predictions(predictions, METRICS, dict.fromkeys(MODELS, "strict"), folder / "scores.csv")
    rows = Rows(static=["sum", "ties"], competing=["sum", "ties", "twin"])
    lines = pd.read_csv(folder / "scores.csv")
    interval_table(lines, predictions, METRICS, rows, resamples=50).to_csv(folder / "intervals.csv", index=False)
    source = {"source": {"hub": {}}, "revision": revision, "files": {"a": revision * 30}}
    write_json(folder / "base/source.json", source)
    records = [_record(folder, rule, finished, code, torch) for rule in ("merge", "score")]
    run = snapshot(
        suite=folder.name,
        settings={
            "options": options,
            "models": {m: {"kind": KINDS.get(m, "none")} for m in MODELS},
        },
        records=records,
        sources=[str(folder / "base/source.json")],
        scores=folder / "scores.csv",
        intervals=folder / "intervals.csv",
        predictions=predictions,
    )
    kept, newest = folder / "runs", folder / "runs/newest.json"
    write_snapshot(run, folder=kept, newest=newest, changes=kept / "changes.json")
    return newest


def _record(folder: Path, rule: str, finished: str, code: str, torch: str) -> str:
    file = folder / "records" / rule / "ties.json"
    write_json(file, {
        "rule": rule,
        "wildcards": {"method": "ties"},
        "started": "2026-01-02T03:04:00.000+00:00",
        "finished": finished,
        "inputs": {},
        "outputs": {"model.safetensors": {"sha256": "0", "size": 1000}},
        "settings": {"threads": 1},
        "code": code if rule == "merge" else "f" * 16,
        "software": {"python": "3.11.7", "torch": torch},
        "hardware": {"processor": "one", "cores": 2, "gpus": []},
        "git": {"commit": "0123456789abcdef", "clean": True, "changed": []},
    })  # fmt: skip
    return str(file)
