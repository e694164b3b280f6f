"""The suite's figures as images inside the page."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# The page stays a file that people send: what is larger is named, and not shown.
LARGEST = 3_000_000
TYPES = {".svg": "image/svg+xml", ".png": "image/png"}


def figures(files: Sequence[Path], said: Mapping[str, Mapping[str, str]]) -> list[dict[str, Any]]:
    """The figures in the order of `files`. An SVG that is too large stands as its PNG, where there is one.

    said: of each file's name, `title`, `caption` and `alt`. As an image nothing in a figure runs, and no name in one
    meets a name in another.
    """
    return [{**said[file.name], "name": file.name, "source": _source(file)} for file in files]


def _source(file: Path) -> str | None:
    """A data: address; None for what is too large."""
    for path in (file, file.with_suffix(".png")):
        if path.is_file() and path.stat().st_size <= LARGEST:
            return f"data:{TYPES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
    return None
