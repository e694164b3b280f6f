"""What was merged and how: the tasks with their experts, the methods with their options, the protocols, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twin_merging.io.files import read_json
from twin_merging.merging.choices import described
from twin_merging.reporting.choices import counted, tried
from twin_merging.reporting.page.words import origin, plain, spaced

KINDS = {
    "static": "static: one merged model for all tasks",
    "masked": "masked: one merged model and a mask for each task",
    "dynamic": "dynamic: a router weighs the experts for each input",
}
USUAL = {"lora_space": "product"}  # said of every static method, and another one only to match old figures
DISPOSITIONS = {"merge": "merged", "expert": "the true task's own", "base": "left as in the base"}


def overview(
    settings: Mapping[str, Any], rows: Mapping[str, Mapping[str, int]], choices: Sequence[Path]
) -> dict[str, Any]:
    """settings: of the rule; rows: of each task and split how many there are; choices: what stage choose wrote."""
    chosen = {one["name"]: _chosen(one) for one in map(read_json, choices)}
    test = {task: _answered(settings["limits"]["test"], rows[task]["test"]) for task in settings["tasks"]}
    methods = [
        {"name": name, "chosen": chosen.get(name, ""), **_method(entry)}
        for name, entry in settings["models"].items()
        if "method" in entry
    ]
    return {
        "base": origin(settings["base"]),
        "dtype": settings["dtype"],
        "tasks": [
            {"name": name, "metric": spaced(task["metric"]), "expert": origin(task["expert"]),
             "data": origin(task["data"]), "rows": {**rows[name], "answered": test[name]}}
            for name, task in settings["tasks"].items()
        ],
        "kinds": [
            {"kind": kind, "words": words, "methods": own}
            for kind, words in KINDS.items()
            if (own := [method for method in methods if method["kind"] == kind])
        ],
        "methods": len(methods),
        "protocols": {
            name: ", ".join(f"{group}: {DISPOSITIONS[what]}" for group, what in groups.items())
            for name, groups in settings["protocols"].items()
        },
        "test_rows": sum(test.values()),
        "limits": {key: value for key, value in settings["limits"].items() if value and key != "sample"},
    }  # fmt: skip


def _chosen(choice: Mapping[str, Any]) -> str:
    rows, found = counted(choice["rows"]), described(choice["chosen"])
    return f"{found}, chosen on {rows} validation rows a task, of {tried(choice['options'])}"


def _answered(limit: int | None, rows: int) -> int:
    return min(limit, rows) if limit else rows


def _method(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A method in words; options that are nothing, or as usual, are left out."""
    options = [
        {"name": spaced(name), "value": plain(value), "words": (entry["words"].get(name) or "").replace("`", "")}
        for name, value in entry["options"].items()
        if value is not None and value != {} and USUAL.get(name) != value
    ]
    return {**{key: entry[key] for key in ("kind", "method", "protocol", "told", "summary", "source")},
            "options": options}  # fmt: skip
