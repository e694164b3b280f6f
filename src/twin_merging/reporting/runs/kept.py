"""The runs that are kept in a results folder."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twin_merging.errors import UserError
from twin_merging.io.files import read_json

FORMAT = 1
NEWEST = "newest.json"
PARTS = ("hash", "suite", "finished", "git", "options", "code", "versions", "sources", "tasks", "models", "intervals",
         "cost")  # fmt: skip
FOLDER = "runs"  # of a suite's results
_NAME = re.compile(r"(\d{8}T\d{6}Z)-([0-9a-f]{8})\.json")
Run = Mapping[str, Any]


@dataclass(frozen=True)
class Kept:
    """A run that is kept: when it finished (UTC, as in its file's name), its hash, and its file."""

    time: str
    hash: str
    file: Path


def file_name(run: Run) -> str:
    """`{time}-{hash}.json` of a snapshot."""
    time = re.sub(r"[-:]", "", run["finished"][:19])
    return f"{time}Z-{run['hash']}.json"


def kept_runs(folder: Path) -> list[Kept]:
    """The runs in a folder, the oldest first."""
    names = sorted(path.name for path in Path(folder).iterdir()) if Path(folder).is_dir() else []
    matches = [match for name in names if (match := _NAME.fullmatch(name))]
    return [Kept(match[1], match[2], Path(folder, match[0])) for match in matches]


def in_order(folder: Path, now: str | None = None) -> list[Kept]:
    """The runs in a folder, the oldest first; but last that which the results hold now, since a run may come back.

    now: its hash, where the folder does not name it yet.
    """
    newest = Path(folder, NEWEST)
    if now is None and newest.is_file():
        now = read_json(newest).get("run")
    return sorted(kept_runs(folder), key=lambda run: (run.hash == now, run.time, run.hash))


def readable(runs: Iterable[Kept]) -> list[tuple[Kept, Run]]:
    """The runs that can be read, each with its snapshot. Left out are those that another version kept, or that are
    damaged: they are in nobody's way."""
    found = []
    for kept in runs:
        with suppress(UserError):
            found.append((kept, read_run(kept.file)))
    return found


def read_run(file: Path) -> Run:
    """The snapshot in a file. Raises UserError for a file that is none."""
    try:
        text = Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise UserError(
            f"{file}: cannot be read as a run's snapshot; list runs with: python -m twin_merging runs"
        ) from None
    return parsed(text, str(file))


def parsed(text: str, place: str) -> Run:
    """The snapshot that a text holds. `place` is named where it holds none."""
    try:
        run = json.loads(text)
        known = run["format"] == FORMAT
    except (ValueError, KeyError, TypeError):
        run, known = {}, True
    if known and not set(PARTS) <= set(run):
        raise UserError(f"{place}: not a run's snapshot; list runs with: python -m twin_merging runs")
    if not known:
        raise UserError(f"{place}: a snapshot of format {run['format']}, not {FORMAT}; read it with its own version")
    return run


def suites_of(results: Path) -> list[str]:
    """The suites of a results folder that have runs."""
    return sorted(path.parent.name for path in Path(results).glob(f"*/{FOLDER}") if kept_runs(path))
