"""Check of sources: everything that was fetched is tied to a revision and to hashes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twin_merging.auditing.provenance import sources as sources_of
from twin_merging.auditing.results import Findings, Results, target
from twin_merging.suite.locks import what_is_fetched

MADE_HERE = ("generate", "finetune")


def check_sources(results: Results) -> Findings:
    """A Hub source asks for a commit and got it, a package has a version, and of all files the SHA-256 is recorded."""
    found = Findings()
    routers = [results.path(target(job)).parent for job in results.of_rule("fetch_router")]
    sources = sources_of(results.content, results.folder / results.suite, routers)
    stated = results.provenance["sources"]
    for place in {**stated, **sources}:
        if stated.get(place) != sources.get(place):
            found.fail(f"{place}: provenance.json does not say of it what the suite and its source.json say")
    fetched = {place: entry for place, entry in sources.items() if entry["kind"] not in MADE_HERE}
    for place, entry in fetched.items():
        _check(found, place, entry)
    kinds = {kind: sum(entry["kind"] == kind for entry in sources.values()) for kind in
             dict.fromkeys(entry["kind"] for entry in sources.values())}  # fmt: skip
    found.facts = {"sources": kinds}
    found.applies = bool(fetched)
    found.summary = (
        f"{len(fetched)} sources, each tied to its revision or to the SHA-256 of its files"
        if fetched
        else f"nothing was fetched: base, data and experts are made here from seed {results.content['seed']}"
    )
    return found


def _check(found: Findings, place: str, entry: Mapping[str, Any]) -> None:
    kind, source = entry["kind"], entry["source"]
    if kind == "hub":
        hub = source["hub"]
        where = f"{place}: hub {hub['repo']} at revision {hub['revision']}"
        if not entry["pinned"]:
            found.fail(f"{where} is not tied to a commit (it was {entry['revision']}); run: snakemake lock")
        elif entry["revision"] != hub["revision"]:
            found.fail(f"{where}: what was fetched is {entry['revision']}")
    elif kind == "package" and not entry["revision"]:
        found.fail(f"{place}: package {source['package']['name']}: no version is recorded")
    if not entry["files"]:
        found.fail(f"{place}: no hash of a fetched file is recorded")
    for name, file in entry["files"].items():
        if len(str(file.get("sha256"))) != 64:
            found.fail(f"{place}: {name}: no SHA-256 is recorded")
    if entry["fetched"] is not None and _essence(entry["fetched"]) != _essence(source):
        found.fail(f"{place}: the suite names {source}, but {entry['fetched']} was fetched")


def _essence(source: Mapping[str, Any]) -> Any:
    """What of a source says where it lies."""
    hub = source.get("hub")
    return what_is_fetched(hub) if hub else {key: value for key, value in source.items() if key != "splits"}
