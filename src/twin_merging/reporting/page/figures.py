"""The suite's figures as images inside the page."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# The page stays a file that people send: what is larger is named, and not shown.
LARGEST = 3_000_000


def figures(files: Sequence[Path]) -> list[dict[str, Any]]:
    """SVG files in their order, each with the title, the caption and the description that its own elements give.

    As an image nothing in a figure runs, and no name in one meets a name in another.
    """
    return [_figure(file) for file in files]


def _figure(file: Path) -> dict[str, Any]:
    svg = file.read_text(encoding="utf-8")
    caption, _, description = _element("desc", svg).partition("\n")
    words = {"title": _element("title", svg) or file.stem, "caption": caption, "description": description}
    return {"name": file.name, **words, "source": None if len(svg) > LARGEST else _as_address(svg)}


def _element(name: str, svg: str) -> str:
    """The text of the first element of that name; empty where there is none."""
    match = re.search(rf"<{name}>(.*?)</{name}>", svg, flags=re.S)
    return html.unescape(match[1]).strip() if match else ""


def _as_address(svg: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode('ascii')}"
