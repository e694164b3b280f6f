"""The page of an audit: one file that needs no other, its verdict on top."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from twin_merging.auditing.results import Results
from twin_merging.io.sizes import human_bytes


def report_page(report: Mapping[str, Any], results: Results) -> str:
    """HTML of a report and of the provenance that it checked. Everything in it is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(size=human_bytes, plain=plain)
    return environment.get_template("report.html").render(
        report=report,
        provenance=results.provenance,
        table=_table(results),
        artefacts=[
            {"name": name, **job["outputs"][name], "job": job, "good": results.is_as_made(name)}
            for name, job in results.makers.items()
        ],
    )


def _table(results: Results) -> list[list[str]]:
    """The table that is audited, its header first; nothing where it is missing."""
    path = results.path(f"results/tables/{results.suite}.csv")
    if not path.is_file():
        return []
    with open(path, encoding="utf-8", newline="") as stream:
        return [[_rounded(cell) for cell in row] for row in csv.reader(stream)]


def _rounded(cell: str) -> str:
    try:
        return f"{float(cell):.2f}"
    except ValueError:
        return cell


def plain(value: Any) -> str:
    """A setting or fact in one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {plain(entry)}" if not isinstance(entry, Mapping) else f"{key}: ({plain(entry)})"
                         for key, entry in value.items()) or "none"  # fmt: skip
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(plain, value)) + "]"
    return "none" if value is None else str(value)
