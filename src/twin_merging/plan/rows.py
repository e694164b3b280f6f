"""How many rows a task has of each split, as far as a suite and its local files say it. No file is read whole."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from twin_merging.suite.models import Task
from twin_merging.suite.suite import Suite

# Rows of a split of which nothing is known, by its name in the source or else by its use.
DEFAULT_ROWS = {"train": 100_000, "validation": 10_000, "test": 10_000, "shots": 1_000}
_SAMPLE = 2**16  # bytes of a file of lines, to see how long they are
_SLICE = re.compile(r"\[(-?[0-9]+%?)?:(-?[0-9]+%?)?\]")


def rows_of(suite: Suite, name: str) -> dict[str, int]:
    """Rows of each split of a task: those that are generated, those of local files, or the default; with its slice."""
    task = suite.tasks[name]
    data = task.data.plain()
    splits: Mapping[str, str] = data.get("splits", {})
    if "generate" in data:
        return {use: data["generate"][use] for use in ("train", "validation", "test")}
    found = {}
    for use, split in {"train": "train", "validation": "validation", "test": "test", **splits}.items():
        whole, bracket, part = split.partition("[")
        found[use] = sliced(_whole(task, whole, use), bracket + part)
    return found


def sliced(rows: int, part: str) -> int:
    """How many of a split's rows its slice names: all for none; `[:10%]`, `[90%:]`, `[:256]`, `[-100:]`."""
    found = _SLICE.fullmatch(part)
    if not found:
        return rows
    start, stop = (_place(text, rows) for text in found.groups())
    return max(0, (rows if stop is None else stop) - (start or 0))


def _place(text: str | None, rows: int) -> int | None:
    if text is None:
        return None
    place = rows * int(text[:-1]) // 100 if text.endswith("%") else int(text)
    return min(rows, place) if place >= 0 else max(0, rows + place)


def _whole(task: Task, split: str, use: str) -> int:
    """Rows of a whole split."""
    folder = task.data.plain().get("path")
    files = [Path(folder, f"{split}.{end}") for end in ("parquet", "jsonl", "json", "csv")] if folder else []
    file = next((file for file in files if file.is_file()), None)
    return _counted(file) if file else DEFAULT_ROWS.get(split, DEFAULT_ROWS[use])


def _counted(file: Path) -> int:
    """Rows of a local file: what a parquet file's end says; else its size by the length of its first lines."""
    if file.suffix == ".parquet":
        from pyarrow.lib import ArrowException
        from pyarrow.parquet import read_metadata

        try:
            return int(read_metadata(file).num_rows)
        except (OSError, ArrowException):
            return DEFAULT_ROWS["train"]
    with open(file, "rb") as stream:
        start = stream.read(_SAMPLE)
    whole = start[: start.rfind(b"\n") + 1] or start or b"\n"
    return max(1, round(file.stat().st_size * max(1, whole.count(b"\n")) / len(whole)))
