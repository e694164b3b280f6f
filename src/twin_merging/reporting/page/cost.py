"""What each model costs: stored numbers and bytes, seconds, memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twin_merging.io.sizes import human_bytes
from twin_merging.reporting.page.words import Line, digits, number, read_lines

PARTS = ("shared", "exclusive", "private", "router")


def cost(file: Path, averages: Mapping[str, float | None]) -> list[dict[str, Any]]:
    """A line for each model of a table of costs, with the length of its bars. averages: normalised scores."""
    lines = read_lines(file)
    most = max((number(line["bytes"]) or 0 for line in lines), default=0) or 1
    return [_line(line, most, averages.get(line["model"])) for line in lines]


def _line(line: Line, most: float, average: float | None) -> dict[str, Any]:
    kept = number(line["bytes"]) or 0
    parts = {part: number(line.get(f"{part}_bytes")) or 0 for part in PARTS}
    seconds, rows = number(line.get("predict_seconds")), number(line.get("rows"))
    return {
        "model": line["model"],
        "kind": line["kind"],
        "rank": line.get("rank") or "",
        "store": line.get("store") or "",
        "average": _shown(average, digits(average)),
        "parameters": _shown(number(line["parameters"]), f"{number(line['parameters']) or 0:,.0f}"),
        "bytes": {"value": kept, "text": human_bytes(kept)},
        "bars": _bars(parts, most),
        "parts": ", ".join(f"{part} {human_bytes(count)}" for part, count in parts.items() if count),
        "merge": _seconds(number(line.get("merge_seconds"))),
        "predict": _seconds(seconds),
        "per_row": _shown(*_milliseconds(seconds, rows)),
        "memory": _mebibytes(number(line.get("peak_mib"))),
    }


def _bars(parts: Mapping[str, float], most: float) -> list[dict[str, Any]]:
    found, start = [], 0.0
    for part, count in parts.items():
        if count:
            width = 100 * count / most
            found.append({"part": part, "x": round(start, 2), "width": round(width, 2)})
            start += width
    return found


def _shown(value: float | None, text: str) -> dict[str, Any]:
    return {"value": value, "text": "" if value is None else text}


def _seconds(value: float | None) -> dict[str, Any]:
    return _shown(value, f"{digits(value, 1)} s")


def _milliseconds(seconds: float | None, rows: float | None) -> tuple[float | None, str]:
    value = None if seconds is None or not rows else 1000 * seconds / rows
    return value, f"{digits(value, 1)} ms"


def _mebibytes(value: float | None) -> dict[str, Any]:
    return _shown(value, f"{value or 0:,.0f} MiB")
