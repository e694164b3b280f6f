"""Where everything on the page comes from, and what the audit says of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twin_merging.io.files import sha256
from twin_merging.reporting.page.words import origin


def sources(provenance: Mapping[str, Any], file: Path, tables: Mapping[str, Path]) -> dict[str, Any]:
    """Sources with revisions and hashes, the environments of the jobs, and the hashes of the tables that are shown.

    provenance: what `file` holds, which stage audit gathers from the records of all jobs.
    """
    jobs = provenance["jobs"]
    return {
        "sources": [{"place": place, **_source(source)} for place, source in provenance["sources"].items()],
        "environments": [
            {**environment, "jobs": sum(job["environment"] == number for job in jobs)}
            for number, environment in enumerate(provenance["environments"])
        ],
        "jobs": len(jobs),
        "began": min((job["started"] for job in jobs), default=""),
        "ended": max((job["finished"] for job in jobs), default=""),
        "suite": provenance["suite"]["file"],
        "hashes": {"provenance.json": sha256(file), **{path.name: sha256(path) for path in tables.values()}},
    }


def _source(source: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "words": origin(source["source"]),
        "revision": source["revision"] or "",
        "is_loose": source["kind"] == "hub" and not source["pinned"],
        "files": {name: entry["sha256"] for name, entry in source["files"].items()},
    }


def audit(report: Mapping[str, Any] | None, provenance: str) -> dict[str, Any] | None:
    """The verdict of the suite's audit; None where none was made. provenance: the hash of what the page rests on: an
    audit of other results than these says nothing of them."""
    return None if report is None else {**report, "is_of_these": report["provenance"] == provenance}
