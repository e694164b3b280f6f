"""Provenance of a suite's tables: the records of all jobs that they rest on, in one file, sources first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from twin_merging.fetching.hub import is_commit
from twin_merging.io.files import read_json, write_json
from twin_merging.jobs.records import read_record, record_name
from twin_merging.suite.locks import hub_sources, what_is_fetched
from twin_merging.tasks.rows import SPLITS

FORMAT = 1
Records = Mapping[str, Mapping[str, Any]]


def write_provenance(settings: Mapping[str, Any], records: Iterable[str], output: Path) -> None:
    """Write provenance.json of a suite's tables from the records of the jobs that they rest on.

    settings: `suite` (name, file, content in normal form), `models` (for each, protocol and true_task), `tables`.
    Also read are the `source.json` of everything fetched or made and the data's row counts. A file that no record names
    as an output stands as an input only: whether the chain is whole is for the audit to say.
    """
    results, tables = Path(output).parent, settings["tables"]
    found = {record_name(file): read_record(Path(file)) for file in records}
    jobs = {name: found[name] for name in chain(found, tables)}
    environments: list[dict[str, Any]] = []
    suite = settings["suite"]
    write_json(output, {
        "format": FORMAT,
        "suite": suite,
        "models": settings["models"],
        "rows": {task: row_counts(results / "data" / task) for task in suite["content"]["tasks"]},
        "sources": sources(suite["content"], results, _routers(results, jobs)),
        "tables": tables,
        "jobs": [_job(name, record, environments) for name, record in jobs.items()],
        "environments": environments,
    })  # fmt: skip


def chain(records: Records, targets: Iterable[str]) -> list[str]:
    """Names of the records that files rest on, each after those it reads from. The order depends on names alone."""
    makers = {path: name for name, record in records.items() for path in record["outputs"]}
    found: dict[str, None] = {}
    waiting = [makers[path] for path in sorted(set(targets), reverse=True) if path in makers]
    entered: set[str] = set()
    while waiting:
        name = waiting[-1]
        if name in entered:
            waiting.pop()
            found.setdefault(name)
            continue
        entered.add(name)
        needed = {makers[path] for path in records[name]["inputs"] if path in makers}
        waiting += sorted(needed - entered, reverse=True)
    return list(found)


def _job(name: str, record: Mapping[str, Any], environments: list[dict[str, Any]]) -> dict[str, Any]:
    """A record, its environment once for all jobs that share it."""
    own = _environment(record, environments)
    shards = [
        {"started": one["started"], "finished": one["finished"], "environment": _environment(one, environments)}
        for one in record.get("shards", ())
    ]
    settings = record["settings"] or {}
    plain = {key: record[key] for key in (
        "rule", "wildcards", "started", "finished", "input", "output", "inputs", "outputs"
    )}  # fmt: skip
    return {
        "name": name,
        **plain,
        "settings": settings,
        "seed": settings.get("seed", settings.get("entry", {}).get("seed")),
        "code": record["code"],
        "environment": own,
        **({"shards": shards} if shards else {}),  # other jobs, which did parts of the work
        **({"taken": record["taken"]} if "taken" in record else {}),  # from a store, where an earlier run put it
    }


def _environment(record: Mapping[str, Any], environments: list[dict[str, Any]]) -> int:
    """The place of a record's environment among all, where it is put if it is not there."""
    environment = {key: record[key] for key in ("software", "hardware", "git")}
    if environment not in environments:
        environments.append(environment)
    return environments.index(environment)


def row_counts(folder: Path) -> dict[str, int]:
    """Rows of each split of a task."""
    import pyarrow.parquet as parquet

    return {split: parquet.read_metadata(folder / f"{split}.parquet").num_rows for split in SPLITS}


def sources(content: Mapping[str, Any], results: Path, routers: Iterable[Path] = ()) -> dict[str, Any]:
    """Of each source that the suite names: what it asks for, the revision that was fetched, and every file's SHA-256.

    kind: hub, path, package, generate or finetune; pinned: of a hub source, whether it asks for a commit; fetched: the
    source that what lies there was fetched from.
    """
    base = {key: value for key, value in content["base"].items() if key != "dtype"}
    places = {"base": (base, results / "base")}
    for task, entry in content["tasks"].items():
        places[f"tasks.{task}.data"] = entry["data"], results / "data" / task
        places[f"tasks.{task}.expert"] = entry["expert"], results / "experts" / task
    found = {place: _source(source, folder) for place, (source, folder) in places.items()}
    for folder in routers:
        found[f"router {folder.relative_to(results / 'router').as_posix()}"] = _fetched_router(content, folder)
    return found


def _source(source: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    kind = next(kind for kind in ("hub", "path", "package", "generate", "finetune") if kind in source)
    record = _record(folder)
    return {
        "kind": kind,
        "source": dict(source),
        "pinned": is_commit(source["hub"]["revision"]) if kind == "hub" else None,
        "revision": record.get("revision"),
        "files": _hashes(record.get("files", {})),
        "fetched": record.get("source") if kind in ("hub", "path", "package") else None,
    }


def _routers(results: Path, records: Records) -> list[Path]:
    """Folders of the routers that were fetched."""
    return [results / "router" / record["wildcards"]["router"]
            for record in records.values() if record["rule"] == "fetch_router"]  # fmt: skip


def _fetched_router(content: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """As it was fetched; the suite's own words for it are those of the source with the same repository."""
    hub = _record(folder)["source"]["hub"]
    asked = [dict(source) for place, source in hub_sources(content) if place[-1] == "router"]
    same = [source for source in asked if what_is_fetched(source) == hub]
    return _source({"hub": same[0] if same else hub}, folder)


def _record(folder: Path) -> dict[str, Any]:
    file = folder / "source.json"
    return read_json(file) if file.is_file() else {}


def _hashes(files: Mapping[str, Any]) -> dict[str, Any]:
    return {name: entry if isinstance(entry, dict) else {"sha256": entry} for name, entry in files.items()}
