"""What a figure says of itself, for pages that show it."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

_SVG = "{http://www.w3.org/2000/svg}"


def said(svg: Path) -> dict[str, str]:
    """`title`, `caption`, and `alt`: what a figure shows, with its numbers."""
    root = ElementTree.parse(svg).getroot()
    title, description = (root.findtext(f"{_SVG}{name}", "") for name in ("title", "desc"))
    caption, _, alt = description.partition("\n")
    return {"title": title, "caption": caption, "alt": alt}
