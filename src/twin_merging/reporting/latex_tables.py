"""A suite's tables in LaTeX: normalised, absolute, and every expert on every task."""

from __future__ import annotations

import pandas as pd

from twin_merging.reporting.cells import of_frame, scored
from twin_merging.reporting.contents import Contents
from twin_merging.reporting.latex import floats, latex
from twin_merging.reporting.normalisation import ABSOLUTE, NORMALISED
from twin_merging.reporting.notes import (
    TOLD,
    difference_note,
    experts_note,
    interval_note,
    no_score_note,
    protocol_note,
    scale_note,
    sentences,
)

ABOUT = r"% Needs \usepackage{booktabs}, and no other package. Then: \input{this file}" + "\n"
SHOWN = ("Index and exponent", ("Bold", "underlined"))


def latex_tables(found: Contents) -> dict[str, str]:
    """The files by the names of their outputs."""
    scales = {"latex": (NORMALISED, found.normalised), "latex_absolute": (ABSOLUTE, found.absolute)}
    texts = {name: _scores(found, *scale) for name, scale in scales.items()}
    said = f"{found.title}. {experts_note(found.rows)}"
    experts = floats(of_frame(found.experts, 1), latex(_plain(said)), _label(found, "experts"), 0)
    return {**texts, "latex_experts": ABOUT + experts}


def _scores(found: Contents, scale: str, frame: pd.DataFrame) -> str:
    table = scored(frame, scale, found.intervals, found.knowledge)
    how, shown = SHOWN
    said = sentences(
        f"{found.title}.",
        scale_note(scale, found.rows),
        no_score_note(found.normalised) if scale == NORMALISED else "",
        interval_note(how, found.told_more, shown),
        difference_note(scale, found.intervals),
        TOLD,
        protocol_note(found.protocols),
    )
    return ABOUT + floats(table, latex(_plain(said)), _label(found, scale), 2)


def _label(found: Contents, name: str) -> str:
    return f"tab:{found.suite}-{name}"


def _plain(said: str) -> str:
    """Sentences that are written for Markdown, as LaTeX shows them."""
    return said.replace("`", "").replace(" x ", " × ")
