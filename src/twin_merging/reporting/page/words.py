"""Numbers and settings as a reader takes them in."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Line = dict[str, str]


def read_lines(file: Path) -> list[Line]:
    """The lines of a CSV file with a header, as text."""
    with open(file, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def number(text: str | None) -> float | None:
    """The number that a cell holds; None for an empty cell, a text, or what is not finite."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def digits(value: float | None, count: int = 2) -> str:
    """A number with that many digits behind the point, with a true minus sign; empty for None."""
    if value is None:
        return ""
    text = f"{value:.{count}f}"
    text = text.removeprefix("-") if not text.strip("-0.") else text
    return text.replace("-", "−")


def signed(value: float) -> str:
    text = digits(value)
    return text if text.startswith("−") else f"+{text}"


def many(count: int, thing: str) -> str:
    """`1 row`, `3,200 rows`."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def plain(value: Any) -> str:
    """A setting in one line."""
    if isinstance(value, Mapping):
        parts = [f"{spaced(key)} {plain(entry)}" for key, entry in value.items() if not _is_nothing(entry)]
        return ", ".join(parts) or "none"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(plain, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and value != 0 and abs(value) < 1e-3:
        return f"{value:g}"
    return "none" if value is None else str(value)


def spaced(name: Any) -> str:
    """A key of a suite as words."""
    return str(name).replace("_", " ")


def _is_nothing(value: Any) -> bool:
    return value is None or (isinstance(value, Mapping | Sequence) and not value)


def origin(source: Mapping[str, Any]) -> str:
    """Where a base, an expert or rows come from, as a part of a sentence."""
    if (hub := source.get("hub")) is not None:
        inside = f", folder {hub['subfolder']}" if hub.get("subfolder") else ""
        return f"{hub['repo']} on the Hugging Face Hub{inside}"
    if (settings := source.get("finetune")) is not None:
        return f"fine-tuned here from the base ({plain(settings)})"
    if (settings := source.get("generate")) is not None:
        return f"made here ({plain(settings)})"
    if (package := source.get("package")) is not None:
        return f"the installed package {package['name']}"
    return f"the local folder {source['path']}" if "path" in source else plain(source)
