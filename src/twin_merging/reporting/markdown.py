"""A suite's tables as a page in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from tabulate import tabulate

from twin_merging.reporting.cells import BEST, SECOND, Cell, Table, of_frame, scored
from twin_merging.reporting.contents import Contents
from twin_merging.reporting.normalisation import ABSOLUTE, NORMALISED, markdown_table
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

SHOWN = {BEST: ("**", "**"), SECOND: ("<ins>", "</ins>"), "": ("", "")}


def markdown_page(found: Contents) -> str:
    """All tables of a suite."""
    parts = [
        f"# {found.title}",
        sentences(scale_note(NORMALISED, found.rows), TOLD, protocol_note(found.protocols)),
        interval_note("In brackets", found.told_more, ("Bold", "underlined")),
        *_scores(found, NORMALISED, found.normalised),
        no_score_note(found.normalised),
        *found.about_some,
        sentences(scale_note(ABSOLUTE, found.rows), "Models, intervals and marks are as above."),
        *_scores(found, ABSOLUTE, found.absolute),
        experts_note(found.rows),
        markdown(of_frame(found.experts, 1)),
    ]
    if len(found.unseen):
        parts += [
            "Unseen tasks, absolute scores in percent: tasks that a model answers although it has not merged them "
            "(`left out`), each row by its own task's head:",
            markdown_table(found.unseen.rename(columns={"left_out": "left out", "true_task": "true task"})),
        ]
    if len(found.router):
        parts += [
            "Routing, in percent (the calibration error's `avg` is that of all rows together):",
            markdown_table(found.router),
        ]
        for models, table in confusions(found.routing):
            named = ", ".join(models)
            parts += [f"Test rows of each task (row) by the task that the router of {named} chose (column):"]
            parts += [markdown(table)]
    return "\n\n".join(part for part in [*parts, *found.choices] if part) + "\n"


def _scores(found: Contents, scale: str, frame: pd.DataFrame) -> list[str]:
    table = scored(frame, scale, found.intervals, found.knowledge)
    return [markdown(table), difference_note(scale, found.intervals)]


def markdown(table: Table) -> str:
    """A table of cells, as `94.52 [93.4, 95.5]`: the best in bold, the second underlined."""
    return tabulate(
        [[_cell(cell) if isinstance(cell, Cell) else cell for cell in row] for row in table.rows],
        headers=list(table.heads),
        tablefmt="pipe",
        disable_numparse=True,  # a name that looks like a number is still a text
        colalign=["left"] * table.texts + ["right"] * (len(table.heads) - table.texts),
    )


def _cell(cell: Cell) -> str:
    before, after = SHOWN[cell.mark]
    number = f"{before}{cell.number}{after}" if cell.number else ""
    return f"{number} [{', '.join(cell.ends)}]" if number and cell.ends else number


def confusions(routing: pd.DataFrame) -> list[tuple[Sequence[str], Table]]:
    """How many test rows of each task are routed to which, without zeros and without tasks that the router does not
    know. Models that route every row count alike stand together. routing: as `reporting.routing.routed_rows` makes
    it."""
    found: dict[str, tuple[list[str], Table]] = {}
    for model, lines in routing[routing["rows"] == "test"].groupby("model", sort=False):
        counts = lines.drop(columns=["model", "rows"]).dropna(axis=1, how="all")
        rows = [[str(row[0]), *(str(int(count)) if count else "" for count in row[1:])]
                for row in counts.itertuples(index=False, name=None)]  # fmt: skip
        models, _ = found.setdefault(counts.to_csv(index=False), ([], Table(list(counts.columns), rows, 1)))
        models.append(str(model))
    return list(found.values())
