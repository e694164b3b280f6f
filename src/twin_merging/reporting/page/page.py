"""Stage page: writes results/{suite}/index.html, one file made for reading."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from twin_merging.io.files import read_json, write_text
from twin_merging.io.sizes import human_bytes
from twin_merging.reporting.page.cost import cost
from twin_merging.reporting.page.examples import examples
from twin_merging.reporting.page.figures import figures
from twin_merging.reporting.page.overview import overview
from twin_merging.reporting.page.routing import routing
from twin_merging.reporting.page.runs import runs
from twin_merging.reporting.page.scores import (
    ABSOLUTE,
    NORMALISED,
    cross_table,
    headline,
    read_intervals,
    score_table,
    unseen_table,
)
from twin_merging.reporting.page.sources import audit, sources
from twin_merging.reporting.page.words import many, plain, spaced

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Files:
    """What the page is made from.

    normalised, absolute, experts, unseen, router, routing, cost: tables of the suite; intervals: of their scores;
    runs: the suite's history; predictions: of each model; data: of each task the folder of its rows; choices: what was
    chosen on validation rows for methods that say so; figures: in the order of the page; audit: what the report of the
    suite's audit says (twin_merging.plan.settings_page.of_audit), where there is one.
    """

    normalised: Path
    absolute: Path
    experts: Path
    unseen: Path
    router: Path
    routing: Path
    cost: Path
    intervals: Path
    runs: Path
    provenance: Path
    predictions: Mapping[str, Path]
    data: Mapping[str, Path]
    choices: Sequence[Path]
    figures: Sequence[Path]
    audit: Mapping[str, Any] | None


def write_page(settings: Mapping[str, Any], files: Files, output: Path) -> None:
    """Write the page. settings: those of the rule (twin_merging.plan.settings_page)."""
    write_text(output, rendered(content(settings, files)))


def content(settings: Mapping[str, Any], files: Files) -> dict[str, Any]:
    """All that the page shows, as plain data by section."""
    models, tasks = settings["models"], settings["tasks"]
    provenance = read_json(files.provenance)
    intervals = read_intervals(files.intervals)
    tables = [
        score_table(file, scale, intervals, models, tasks)
        for scale, file in ((NORMALISED, files.normalised), (ABSOLUTE, files.absolute))
    ]
    averages = {row["model"]: row["cells"][0]["value"] for row in tables[0]["rows"]}
    rests_on = sources(provenance, files.provenance, {NORMALISED: files.normalised, ABSOLUTE: files.absolute})
    return {
        "name": settings["name"],
        "title": settings["title"],
        "overview": overview(settings, provenance["rows"], files.choices),
        "headline": headline(tables[0], models, settings["told_more"]),
        "tables": tables,
        "told_more": settings["told_more"],
        "experts": cross_table(files.experts),
        "unseen": unseen_table(files.unseen),
        "figures": figures(files.figures),
        "examples": _examples(settings, files, averages),
        "routing": routing(files.router, files.routing),
        "cost": cost(files.cost, averages),
        "runs": runs(files.runs),
        "sources": rests_on,
        "audit": audit(files.audit, rests_on["hashes"]["provenance.json"]),
    }


def _examples(settings: Mapping[str, Any], files: Files, averages: Mapping[str, float | None]) -> dict[str, Any]:
    """Examples of every task, and what is shown first: the first task, and the model of the best average."""
    merged = [name for name, entry in settings["models"].items() if "method" in entry]
    best = max(merged, key=lambda name: averages.get(name) or 0.0, default="pretrained")
    found = examples(
        family=settings["family"],
        tasks=settings["tasks"],
        data=files.data,
        predictions=files.predictions,
        weighed={name: settings["models"][name]["merged"] for name in merged},
        seed=settings["seed"],
        limit=settings["limits"]["test"],
        sample=settings["limits"].get("sample"),
    )
    task = next(iter(found))
    return {"tasks": found, "task": task, "model": best if best in found[task]["models"] else "pretrained"}


def rendered(content: Mapping[str, Any]) -> str:
    """The page as HTML, with everything in it escaped. Nothing but its own style and script may be used, by their
    hashes."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(size=human_bytes, plain=plain, spaced=spaced, many=many, data=as_data)
    style, script = (_inlined(HERE / f"page.{end}") for end in ("css", "js"))
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )
    return environment.get_template("page.html").render(
        **content, style=Markup(style), script=Markup(script), policy=policy
    )


def as_data(content: Any) -> Markup:
    """Plain data as JSON in a script element: no text of it can end the element, or a line of JavaScript."""
    text = json.dumps(content, ensure_ascii=True, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _inlined(file: Path) -> str:
    return file.read_text(encoding="utf-8").strip()


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
    return f"'sha256-{digest}'"
