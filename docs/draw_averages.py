"""Draw the averages of a normalised table as a bar chart: python docs/draw_averages.py TABLE.csv OUTPUT.svg TITLE"""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path

import pandas as pd

WIDTH, BAR, GAP, LEFT, RIGHT, TOP = 860, 22, 10, 210, 60, 56
COLOURS = {"pretrained": "#9aa3ad", "experts": "#9aa3ad", "static": "#4c7fb8", "masked": "#6a9a5b",
           "dynamic": "#d1603d"}  # fmt: skip


def draw(table: pd.DataFrame, title: str) -> str:
    """An SVG with a bar a model: its average normalised score, in percent of the experts'."""
    scale = (WIDTH - LEFT - RIGHT) / max(100.0, table["avg"].max())
    height = TOP + len(table) * (BAR + GAP) + 62
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="13" fill="#222">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="16" y="26" font-size="15" font-weight="bold">{escape(title)}</text>',
    ]
    bottom = TOP + len(table) * (BAR + GAP)
    for mark in range(0, 101, 20):
        x = LEFT + mark * scale
        parts.append(f'<line x1="{x:.1f}" y1="{TOP - 8}" x2="{x:.1f}" y2="{bottom}" stroke="#e3e6ea"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle" fill="#555">{mark}</text>')
    for row, line in enumerate(table.itertuples(index=False)):
        y = TOP + row * (BAR + GAP)
        kind = "dynamic" if line.model.startswith("twin") else "masked" if "masks" in line.true_task else "static"
        colour = COLOURS.get(line.model, COLOURS[kind])
        parts.append(f'<text x="{LEFT - 10}" y="{y + 16}" text-anchor="end">{escape(line.model)}</text>')
        parts.append(
            f'<rect x="{LEFT}" y="{y}" width="{max(line.avg, 0) * scale:.1f}" height="{BAR}" fill="{colour}"/>'
        )
        parts.append(f'<text x="{LEFT + max(line.avg, 0) * scale + 6:.1f}" y="{y + 16}">{line.avg:.1f}</text>')
    captions = (
        "average normalised score, % of the experts' scores on the same test rows",
        "blue: one model for all inputs; green: a mask for the true task; orange: routed",
    )
    for line, caption in enumerate(captions):
        parts.append(f'<text x="{LEFT}" y="{bottom + 36 + 18 * line}" fill="#555">{escape(caption)}</text>')
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    source, output, title = sys.argv[1:]
    Path(output).write_text(draw(pd.read_csv(source), title), encoding="utf-8")
