"""A suite's scores, intervals and tables made once more, from predictions and models as they lie there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from twin_merging.auditing.results import Job, Results

if TYPE_CHECKING:
    import pandas as pd

SCORES, INTERVALS = "scores.csv", "intervals.csv"


def recomputed_scores(results: Results, score: Job) -> pd.DataFrame:
    """scores.csv again, from the predictions as they are."""
    from twin_merging.scoring.score import score_table

    settings = score["settings"]
    files = _predictions(results, settings["protocols"])
    return score_table(files, settings["metrics"], settings["protocols"], settings.get("evaluated"))


def _predictions(results: Results, models: Mapping[str, object] | list[str]) -> dict[str, Path]:
    return {model: results.path(results.of_suite("predictions", f"{model}.parquet")) for model in models}


def recomputed_intervals(results: Results, job: Job, folder: Path) -> Path:
    """intervals.csv again, from the predictions and from the scores that lie in `folder`."""
    from twin_merging.reporting.intervals import Rows, write_intervals

    settings, output = job["settings"], folder / INTERVALS
    write_intervals(
        folder / SCORES,
        _predictions(results, settings["models"]),
        settings["metrics"],
        Rows(settings["static"], settings["competing"]),
        output,
        settings.get("subsets") or {},
    )
    return output


def recomputed_tables(results: Results, job: Job, folder: Path) -> Mapping[str, Path]:
    """The tables of rule tabulate by their names, from the scores and the intervals that lie in `folder`."""
    from twin_merging.reporting.tables import write_tables

    outputs = {name: folder / Path(file).name for name, (file,) in job["output"].items()}
    settings, inputs = job["settings"], job["input"]
    of_model = {key: dict(zip(settings["dynamic"], map(results.path, inputs.get(key, [])), strict=True))
                for key in ("predictions", "router_metrics")}  # fmt: skip
    write_tables(
        title=settings["title"],
        suite=results.suite,
        scores=folder / SCORES,
        intervals=folder / INTERVALS,
        tasks=settings["tasks"],
        knowledge=settings["knowledge"],
        protocols=settings["protocols"],
        told_more=settings["told_more"],
        predictions=of_model["predictions"],
        router_metrics=of_model["router_metrics"],
        subsets=settings.get("subsets"),
        outputs=outputs,
        choices=[results.path(file) for file in inputs.get("choices", [])],
    )
    return outputs


def recomputed_storage(results: Results, job: Job, folder: Path) -> Path:
    """The table of rule storage again, from the files of the models as they are."""
    from twin_merging.reporting.storage import write_storage

    settings, output = job["settings"], folder / "storage.csv"
    write_storage(
        results.path(results.of_suite("base")),
        {task: results.path(results.of_suite("experts", task)) for task in settings["tasks"]},
        settings["adapters"],
        {name: results.path(results.of_suite("models", name)) for name in settings["models"]},
        settings["models"],
        output,
    )
    return output
