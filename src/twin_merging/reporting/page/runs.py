"""The runs of the suite that are kept, and what the last one changed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twin_merging.io.files import read_json
from twin_merging.reporting.page.words import digits, plain, signed

DIGITS_OF_A_COMMIT = 8


def runs(file: Path) -> dict[str, Any] | None:
    """The runs, the last first, and what differs in it from the one before; None where there is only one.

    file: what stage snapshot writes of a suite's history.
    """
    found = read_json(file)
    if found["difference"] is None:
        return None
    difference = found["difference"]
    return {
        "runs": [_run(run) for run in found["runs"]],
        "old": difference["old"]["hash"],
        "new": difference["new"]["hash"],
        "same": difference["same"],
        "changes": _changes(difference),
        "averages": [_score(line) for line in difference["scores"]["averages"]],
        "tasks": [_score(line) for line in difference["scores"]["tasks"]],
        "seconds": {side: digits(difference["cost"]["seconds"][side], 0) for side in ("old", "new")},
    }


def _run(run: Mapping[str, Any]) -> dict[str, Any]:
    commit = "none" if run["commit"] is None else run["commit"][:DIGITS_OF_A_COMMIT] + ("" if run["clean"] else "+")
    return {
        "hash": run["hash"],
        "finished": run["finished"][:16].replace("T", " "),
        "commit": commit,
        "changed": run["changed"],
        "is_now": run["is_now"],
        "headline": ", ".join(f"{line['model']} {digits(line['value'])}" for line in run["headline"]),
    }


def _changes(difference: Mapping[str, Any]) -> list[dict[str, str]]:
    """All that may have changed a score: what it is of, what changed, and how."""
    found = [("option", line["key"], _turned(line)) for line in difference["options"]]
    found += [("code", f"rule {line['rule']}", _turned(line)) for line in difference["code"]]
    found += [("version", line["package"], _turned(line)) for line in difference["versions"]]
    found += [("source", line["source"], _turned(line)) for line in difference["sources"]]
    found += [("test rows", line["task"], _turned(line)) for line in difference["rows"]]
    found += [("model", model, end) for end in ("added", "removed") for model in difference["scores"][end]]
    return [dict(zip(("of", "what", "how"), line, strict=True)) for line in found]


def _turned(line: Mapping[str, Any]) -> str:
    return f"{plain(line['old'])} → {plain(line['new'])}"


def _score(line: Mapping[str, Any]) -> dict[str, Any]:
    low, high, difference = line["low"], line["high"], line["difference"]
    return {
        "model": line["model"],
        "task": "average" if line["task"] == "avg" else line["task"],
        "scale": line.get("scale", "absolute"),
        "old": digits(line["old"]),
        "new": digits(line["new"]),
        "difference": "" if difference is None else signed(difference),
        "value": difference,
        "interval": "" if low is None or high is None else f"{signed(low)} to {signed(high)}",
        "p": "" if line.get("p") is None else f"{line['p']:.2g}",
    }
