"""Where routers send the rows of each task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twin_merging.reporting.page.words import digits, number, read_lines

SHADES = 10
KEYS = ("model", "rows", "task")


def routing(router: Path, routing: Path) -> dict[str, Any]:
    """The routers' measures, and a table of counts for each router and kind of rows. Models whose tables are equal, as
    those of one router are, stand under one table."""
    measured = read_lines(router)
    columns = [name for name in (measured[0] if measured else {}) if name not in ("model", "measure")]
    lines = [
        {"model": line["model"], "measure": line["measure"],
         "cells": [{"text": digits(number(line[name]), 1), "value": number(line[name])} for name in columns]}
        for line in measured
    ]  # fmt: skip
    return {"columns": columns, "lines": lines, "tables": _tables(routing)}


def _tables(file: Path) -> list[dict[str, Any]]:
    counts: dict[str, dict[str, list[tuple[str, tuple[int, ...]]]]] = {}
    tasks: list[str] = []
    for line in read_lines(file):
        tasks = [name for name in line if name not in KEYS]
        of_rows = counts.setdefault(line["model"], {}).setdefault(line["rows"], [])
        of_rows.append((line["task"], tuple(int(float(line[name] or 0)) for name in tasks)))
    found: dict[str, dict[str, Any]] = {}
    for model, of_model in counts.items():
        one = found.setdefault(repr(of_model), {"models": [], "tasks": tasks, "kinds": []})
        one["models"].append(model)
        one["kinds"] = [{"rows": kind, **_shaded(lines, tasks)} for kind, lines in of_model.items()]
    return list(found.values())


def _shaded(lines: list[tuple[str, tuple[int, ...]]], tasks: list[str]) -> dict[str, Any]:
    """Counts with a shade of 0 to 10, a row's share; and how many rows went to their own task."""
    rows: list[dict[str, Any]] = [
        {"task": task, "cells": [
            {"count": count, "shade": _shade(count, sum(counts)), "own": name == task}
            for name, count in zip(tasks, counts, strict=True)
        ]}
        for task, counts in lines
    ]  # fmt: skip
    right = sum(cell["count"] for row in rows for cell in row["cells"] if cell["own"])
    return {"lines": rows, "right": right, "of": sum(sum(counts) for _, counts in lines)}


def _shade(count: int, all_of_row: int) -> int:
    """0 for nothing alone: one row of thousands has the lightest shade."""
    return 0 if not count else max(1, round(SHADES * count / all_of_row))
