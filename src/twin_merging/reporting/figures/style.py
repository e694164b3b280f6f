"""How every figure looks: sizes, colours, markers, hatches, fonts. And how a figure is written: always the same bytes.

A figure is `WIDTH` inches wide, the width of a page's text in one column, with letters of 7 to 8 points. What a colour
says, a marker, a hatch or a line style says too, so that figures can be read in grey and by colour-blind people.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin_merging.io.files import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 5.5
INK, PALE, GRID = "#1a1a1a", "#5f5f5f", "#dddddd"
FONT = "DejaVu Sans of matplotlib"
SEQUENTIAL = "Blues"  # light for small numbers, dark for large ones, in grey too


@dataclass(frozen=True)
class Look:
    """How something is drawn: the colour of a bar or a point, its marker, and its hatch."""

    label: str
    colour: str
    marker: str
    hatch: str


# By kind of model. Their luminances differ by 35 or more of 255.
KINDS = {
    "pretrained": Look("not merged", "#ffffff", "o", ""),
    "static": Look("one model for all inputs", "#8ccbee", "o", ""),
    "masked": Look("a mask for the true task", "#2f9e77", "s", "////"),
    "weighed": Look("uniform or true-task weights", "#f0dcb8", "^", "\\\\\\\\"),
    "dynamic": Look("routed by input", "#8c2d04", "D", ""),
    "experts": Look("not merged", "#ffffff", "o", ""),
}
# For lines and series: colours of Okabe and Ito, with a marker and a line style each.
COLOURS = ("#000000", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a7a00")
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "p", "<", ">", "*")
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1)), (0, (7, 2)))

_SETTINGS: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": PALE,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 8,
    "axes.unicode_minus": True,
    "figure.dpi": 100,
    "font.family": [FONT],
    "font.size": 8,
    "grid.color": GRID,
    "grid.linewidth": 0.5,
    "hatch.linewidth": 0.6,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "savefig.facecolor": "white",
    "svg.fonttype": "path",  # the same letters on every machine, whatever fonts it has
    "text.color": INK,
    "text.parse_math": False,  # a dollar in a title is a dollar
    "xtick.color": PALE,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.color": PALE,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 7,
    "ytick.major.width": 0.6,
}


def series(number: int, colours: Sequence[str] = COLOURS) -> dict[str, Any]:
    """Colour, marker and line style of the number-th of several lines: no two of the first 55 have both marker and line
    style in common."""
    return {
        "color": colours[number % len(colours)],
        "marker": MARKERS[number % len(MARKERS)],
        "linestyle": DASHES[number % len(DASHES)],
    }


def point(look: Look, size: float = 3.6) -> dict[str, Any]:
    """How matplotlib's errorbar draws a point of a look."""
    return {
        "fmt": look.marker,
        "markersize": size,
        "markerfacecolor": look.colour,
        "markeredgecolor": INK,
        "markeredgewidth": 0.6,
    }


@dataclass(frozen=True)
class Drawing:
    """A figure, its title, a caption, and what it shows in words, for who cannot see it."""

    figure: Figure
    title: str
    caption: str
    description: str


@contextmanager
def drawing() -> Iterator[None]:
    """Within the block matplotlib draws in our style, whatever settings the user has, with letters of its own fonts."""
    import matplotlib

    _add_fonts()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)  # type: ignore[arg-type]
        yield


def _add_fonts() -> None:
    """Make the letters that come with matplotlib known under a name that no font of the system has."""
    import matplotlib
    from matplotlib.font_manager import FontEntry, fontManager

    if any(entry.name == FONT for entry in fontManager.ttflist):
        return
    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    for file, weight in (("DejaVuSans.ttf", 400), ("DejaVuSans-Bold.ttf", 700)):
        fontManager.ttflist.append(
            FontEntry(fname=str(folder / file), name=FONT, style="normal", variant="normal", weight=weight,
                      stretch="normal", size="scalable")
        )  # fmt: skip


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """An empty figure of a size in inches, whose axes are laid out by what they hold."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.04, h_pad=0.04)  # type: ignore[union-attr, call-arg]
    return figure


def entitle(figure: Any, title: str, suite: str, caption: str) -> None:
    """Write a title over the figure, on the left, and below it in smaller letters what the suite is called and the
    caption."""
    width, height = figure.get_size_inches()
    lines = textwrap.wrap(" ".join(f"{suite}. {caption}".split()), int(width * 18))
    top = 1 - 0.06 / height
    figure.text(0.06 / width, top, title, va="top", ha="left", fontsize=9, fontweight="bold")
    figure.text(
        0.06 / width, top - 0.2 / height, "\n".join(lines), va="top", ha="left", fontsize=7, color=PALE, linespacing=1.3
    )
    room = 0.24 + 0.135 * len(lines)
    figure.get_layout_engine().set(rect=(0, 0, 1, 1 - room / height))


def heading(lines: int) -> float:
    """Inches that a title with so many lines below it takes."""
    return 0.3 + 0.135 * lines


def save(drawn: Drawing, svg: Path, png: Path) -> None:
    """Write a figure as SVG and as PNG. The same figure gives the same bytes on every run."""
    import matplotlib

    figure: Any = drawn.figure
    with matplotlib.rc_context({"svg.hashsalt": drawn.title}):
        with whole_file(svg) as partial:
            figure.savefig(partial, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
            text = partial.read_text(encoding="utf-8")
            partial.write_text(_described(text, drawn), encoding="utf-8")
        with whole_file(png) as partial:
            figure.savefig(partial, format="png", dpi=220, metadata={"Software": None})


def _described(svg: str, drawn: Drawing) -> str:
    """An SVG whose first elements are a title and a description: a line for the caption, and one for what it shows."""
    begin = svg.index("<svg")
    end = svg.index(">", begin) + 1
    head = svg[begin : end - 1].replace("<svg", '<svg role="img"', 1)
    said = (
        f"\n <title>{escape(drawn.title)}</title>\n <desc>{escape(drawn.caption)}\n{escape(drawn.description)}</desc>"
    )
    return f"{svg[:begin]}{head}>{said}{svg[end:]}"


def plain_number(value: float) -> str:
    """A number with as many digits as it needs."""
    return f"{value:.6g}"


def luminance(colour: Sequence[float]) -> float:
    """Relative luminance of a colour (red, green, blue from 0 to 1), from 0 to 1, as WCAG 2 defines it."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def text_on(colour: Sequence[float]) -> str:
    """Black or white, whichever has more contrast with a colour."""
    return "black" if luminance(colour) > 0.18 else "white"
