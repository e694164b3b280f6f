"""Rule cost: what each of a suite's models takes to store, to make and to ask, from the records of the jobs that did
so.

Times differ with every run and machine, so no other table reads these."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from twin_merging.io.files import whole_file, write_text
from twin_merging.jobs.records import read_record, record_name, seconds, with_shards
from twin_merging.reporting.normalisation import markdown_table

COLUMNS = ["merge_seconds", "predict_seconds", "rows", "peak_mib"]
ABOUT = (
    "Stored: all that a model keeps on disk for all tasks together; `exclusive` of a masked model are its masks, "
    "`private` are heads and other parameters of a task's own, and of the experts these themselves. `rank`: the "
    "largest of any matrix of the exclusive vectors; `store`: the number format of these, or of the model.\n\n"
    "`merge`: seconds of all jobs between the experts and the model, one after the other: task vectors, statistics, "
    "merging, and of a model with a router also compressing, features, training the router and assembling, and merging "
    "its shared expert. Work that models share counts for each of them. `predict`: seconds to answer all test rows, "
    "from loading the model on, and rows a second; of the experts that of all, each of which answers every task. "
    "`peak`: the most memory that one of these jobs held, the libraries included. Times and memory are those of the "
    "machine that ran the jobs last, and differ with every run."
)
UNITS = {"bytes": "MB", "shared_bytes": "shared MB", "exclusive_bytes": "exclusive MB",
         "private_bytes": "private MB", "router_bytes": "router MB"}  # fmt: skip


def write_cost(
    *,
    title: str,
    storage: Path,
    scores: Path,
    models: Mapping[str, Mapping[str, Sequence[str]]],
    records: Iterable[str],
    outputs: Mapping[str, Path],
) -> None:
    """Write the table as CSV and as Markdown.

    storage, scores: the files of rules storage and score; models: of each the names of the jobs for `making` it and for
    `asking` it; records: the files of these jobs' records; outputs: paths named csv, markdown.
    """
    jobs = {record_name(file): read_record(Path(file)) for file in records}
    rows = pd.read_csv(scores).groupby("model")["rows"].sum()
    table = pd.read_csv(storage).astype({"rank": "Int64"})
    table[COLUMNS] = [_line(jobs, models[model], rows) for model in table["model"]]
    table["rows"] = table["rows"].astype("Int64")
    with whole_file(outputs["csv"]) as partial:
        table.to_csv(partial, index=False, float_format="%.3f")
    write_text(outputs["markdown"], f"# {title}: cost\n\n{markdown_table(_shown(table))}\n\n{ABOUT}\n")


def _line(jobs: Mapping[str, Mapping[str, Any]], model: Mapping[str, Sequence[str]], rows: pd.Series) -> list[Any]:
    made, asked = ([jobs[name] for name in model[what]] for what in ("making", "asking"))
    peaks = [one["peak_mib"] for job in (*made, *asked) for one in with_shards(job) if one.get("peak_mib")]
    answered = sum(int(rows[job["wildcards"]["model"]]) for job in asked)
    making = sum(map(seconds, made)) if made else None
    return [making, sum(map(seconds, asked)), answered, max(peaks, default=None)]


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    """The table for people: megabytes, and rows a second."""
    found = table[["model", "kind"]].copy()
    found["rank"] = ["" if pd.isna(rank) else str(rank) for rank in table["rank"]]
    found["store"] = table["store"]
    found["parameters"] = table["parameters"]
    for column, head in UNITS.items():
        found[head] = table[column] / 1e6
    found["merge s"], found["predict s"] = table["merge_seconds"].astype(float), table["predict_seconds"].astype(float)
    found["rows/s"] = table["rows"].astype(float) / found["predict s"]
    found["peak MiB"] = table["peak_mib"].astype(float)
    return found
