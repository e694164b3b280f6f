"""Writes the snapshot of a finished table: options, code, versions, sources, scores with their rows, and what it cost.

Snapshots are kept as results/{suite}/runs/{time}-{hash}.json. The hash is of the content without times, machine and
commit. A run that gives the same content again is kept once.
`newest.json` beside them names the run that the results folder holds now, by its hash.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd

from twin_merging.io.aliases import named
from twin_merging.io.files import read_json, whole_file, write_json
from twin_merging.jobs.records import read_record, record_name, seconds, with_shards
from twin_merging.reporting.interval_lines import read_intervals
from twin_merging.reporting.runs.history import history
from twin_merging.reporting.runs.kept import FORMAT, file_name, kept_runs
from twin_merging.reporting.runs.rows import digest_of, pack, references_of, rows_of
from twin_merging.reporting.runs.scores import AVERAGE, NORMALISED

# The parts that the hash is of.
CONTENT = ("options", "code", "versions", "sources", "tasks", "models")


def write_snapshot(run: Mapping[str, Any], *, folder: Path, newest: Path, changes: Path) -> None:
    """Keep a snapshot in `folder`, unless one with its content is there.

    newest: where to name the run; changes: where to write all runs, and what differs from the one before.
    """
    if all(other.hash != run["hash"] for other in kept_runs(folder)):
        with whole_file(folder / file_name(run)) as partial:
            partial.write_text(_as_text(run), encoding="utf-8")
    write_json(newest, {"format": FORMAT, "suite": run["suite"], "run": run["hash"]})
    write_json(changes, history(folder, run["hash"]))


def snapshot(
    *,
    suite: str,
    settings: Mapping[str, Any],
    records: Iterable[str],
    sources: Iterable[str],
    scores: Path,
    intervals: Path,
    predictions: Mapping[str, Path],
) -> dict[str, Any]:
    """A suite's finished scores as plain data.

    suite: its name. settings: `options` (its content in normal form), `models` (for each kind, protocol and true_task).
    records: of the jobs that the scores rest on; sources: the files source.json; intervals: the file of rule intervals;
    predictions: by model.
    """
    jobs = {record_name(file): read_record(Path(file)) for file in records}
    last = max(jobs.values(), key=lambda record: record["finished"])
    lines = pd.read_csv(scores)
    tasks, rows = _tasks_and_rows(lines, predictions)
    run = {
        "format": FORMAT,
        "suite": suite,
        "finished": last["finished"],
        "git": {key: last["git"][key] for key in ("commit", "clean")},
        "hardware": _each(one["hardware"] for record in jobs.values() for one in with_shards(record)),
        "options": {**settings["options"], "threads": _threads(jobs)},
        "code": {name: record["code"] for name, record in jobs.items()},
        "versions": _versions(jobs),
        "sources": {_place(file): _source(Path(file)) for file in sources},
        "tasks": tasks,
        "models": _models(settings["models"], lines, rows),
        "intervals": _intervals(intervals),
        "cost": {"seconds": {name: round(seconds(record), 3) for name, record in jobs.items()}, "bytes": _bytes(jobs)},
    }  # fmt: skip
    content = json.dumps({part: run[part] for part in CONTENT}, sort_keys=True)
    return {"hash": sha256(content.encode()).hexdigest()[:8], **run}


def _tasks_and_rows(
    lines: pd.DataFrame, predictions: Mapping[str, Path]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Of each task its metric and references, and of each model what is kept of its rows, by task.

    Of an expert only its own task's rows are kept: the cross table is no comparison of methods.
    """
    metrics = dict(zip(lines["task"], lines["metric"], strict=True))
    tasks: dict[str, Any] = {}
    rows: dict[str, dict[str, Any]] = {}
    for model, file in predictions.items():
        of_tasks = dict(list(pd.read_parquet(file, columns=["task", "row", "output", "reference"]).groupby("task")))
        rows[model] = {}
        for task, metric in metrics.items():
            if task not in of_tasks or (model.startswith("expert-") and model != f"expert-{task}"):
                continue
            of_task = of_tasks[task]
            outputs, references = of_task["output"].tolist(), of_task["reference"].tolist()
            rows[model][task] = pack(rows_of(metric, outputs, references))
            if task not in tasks:
                tasks[task] = _task(metric, of_task["row"].tolist(), references)
    return {task: tasks[task] for task in metrics if task in tasks}, rows


def _task(metric: str, numbers: Sequence[int], references: Sequence[Any]) -> dict[str, Any]:
    kept = references_of(metric, references)
    found = {"metric": metric, "rows": len(references), "digest": digest_of(numbers, references)}
    return found if kept is None else {**found, "kept": pack(kept)}


def _models(
    known: Mapping[str, Mapping[str, str]], lines: pd.DataFrame, rows: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    values: dict[str, dict[str, float]] = {}
    for model, task, value in zip(lines["model"], lines["task"], lines["value"], strict=True):
        values.setdefault(model, {})[task] = float(value)
    return {model: {**known[model], "scores": scores, "rows": rows[model]} for model, scores in values.items()}


def _intervals(file: Path) -> dict[str, list[float]]:
    """The two ends of the interval of each model's normalised average, where it has one."""
    lines = read_intervals(file)
    chosen = lines[(lines["scale"] == NORMALISED) & (lines["task"] == AVERAGE) & lines["low"].notna()]
    return {str(model): [float(low), float(high)]
            for model, low, high in zip(chosen["model"], chosen["low"], chosen["high"], strict=True)}  # fmt: skip


def _threads(jobs: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """Threads of the jobs of each rule that has not one: they change the last bits of sums."""
    found = {record["rule"]: (record["settings"] or {}).get("threads", 1) for record in jobs.values()}
    return {rule: count for rule, count in found.items() if count != 1}


def _versions(jobs: Mapping[str, Mapping[str, Any]]) -> dict[str, str | None]:
    """The version of each package, several where the jobs did not all run with the same."""
    all_software = [one["software"] for record in jobs.values() for one in with_shards(record)]
    packages = dict.fromkeys(package for software in all_software for package in software)
    found: dict[str, str | None] = {}
    for package in packages:
        versions = _each(known[package] for known in all_software if package in known)
        found[package] = ", ".join(sorted(map(str, versions))) if versions != [None] else None
    return found


def _each(values: Iterable[Any]) -> list[Any]:
    """Every value once, in the order in which they come."""
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found


def _place(file: str) -> str:
    """What a source.json is of: base, data/{task}, experts/{task}, or router/{router}."""
    return "/".join(Path(named(file)).parts[2:-1])


def _source(file: Path) -> dict[str, Any]:
    """The revision of a source, and the first 16 digits of the SHA-256 of its files; for what is made here, of how."""
    content = read_json(file)
    files = {name: (entry["sha256"] if isinstance(entry, dict) else entry)[:16]
             for name, entry in content.get("files", {}).items()}  # fmt: skip
    return {"kind": next(iter(content["source"])), "revision": content.get("revision"), "files": files}


def _bytes(jobs: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """What each merged model takes on disk."""
    return {
        record["wildcards"]["method"]: sum(entry["size"] for entry in record["outputs"].values())
        for record in jobs.values()
        if record["rule"].startswith(("merge", "assemble")) and "method" in record["wildcards"]
    }


def _as_text(run: Mapping[str, Any]) -> str:
    """JSON with a line for each entry of the long parts: short, and one can read it."""
    return "{\n" + ",\n".join(f" {json.dumps(name)}: {_part(name, part)}" for name, part in run.items()) + "\n}\n"


def _part(name: str, part: Any) -> str:
    if name not in ("code", "sources", "tasks", "models"):
        return json.dumps(part, ensure_ascii=False)
    lines = (f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in part.items())
    return "{\n" + ",\n".join(lines) + "\n }"
