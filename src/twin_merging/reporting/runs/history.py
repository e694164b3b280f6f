"""The runs of a suite as plain data, for the list of runs and for the reading page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twin_merging.reporting.runs.difference import difference
from twin_merging.reporting.runs.differences import phrase
from twin_merging.reporting.runs.kept import Run, in_order, readable
from twin_merging.reporting.runs.scores import NORMALISED, averages


def history(folder: Path, now: str | None = None) -> dict[str, Any]:
    """`runs`: as `list_of_runs` gives them. `difference`: what differs in the run that the results hold now from the
    one before, as `difference` gives it; None where there is only one.

    now: the hash of the run that the results hold now, where the folder does not name it yet.
    """
    last = [run for _, run in readable(in_order(folder, now)[-2:])]
    differs = difference(last[0], last[1]) if len(last) == 2 else None
    return {"runs": list_of_runs(folder, now), "difference": differs}


def list_of_runs(folder: Path, now: str | None = None) -> list[dict[str, Any]]:
    """Every run that a folder keeps, the last first: as `summary` gives it, with `file`, its name there, and `is_now`,
    whether the results hold it now."""
    kept = in_order(folder, now)
    runs = readable(kept)
    before = [None, *(run for _, run in runs)]
    found = [
        {**summary(run, earlier), "file": file.file.name, "is_now": file is kept[-1]}
        for (file, run), earlier in zip(runs, before, strict=False)
    ]
    return found[::-1]


def summary(run: Run, before: Run | None) -> dict[str, Any]:
    """A run in one line: `hash`, `finished`, `commit`, `clean`, `changed` (since the run before it), and `headline`."""
    return {
        "suite": run["suite"],
        "hash": run["hash"],
        "finished": run["finished"],
        **{key: run["git"][key] for key in ("commit", "clean")},
        "changed": "" if before is None else phrase(before, run),
        "headline": headline(run),
    }


def headline(run: Run) -> list[dict[str, Any]]:
    """Normalised averages of the best static model and of every dynamic one: `model`, `kind`, `value`, and `low` and
    `high`, the ends of the interval, where the run has them."""
    values = averages(run, NORMALISED)
    kinds = {model: entry.get("kind") for model, entry in run["models"].items()}
    static = [model for model in values if kinds.get(model) == "static" and values[model] is not None]
    chosen = [max(static, key=lambda model: values[model] or 0.0)] if static else []
    chosen += [model for model in values if kinds.get(model) == "dynamic"]
    return [{"model": model, "kind": kinds[model], "value": values[model], **_interval(run, model)} for model in chosen]


def _interval(run: Run, model: str) -> dict[str, float]:
    ends = run["intervals"].get(model)
    return {} if ends is None else {"low": ends[0], "high": ends[1]}
