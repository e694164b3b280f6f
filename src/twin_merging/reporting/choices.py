"""What a table and a model card say of options that were chosen on validation rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from twin_merging.io.files import read_json
from twin_merging.merging.choices import described, listed
from twin_merging.reporting.normalisation import markdown_table

SAYS = (
    "Chosen on validation rows, never on test rows: every combination of the values that were tried was merged and "
    "answered the first validation rows of each task. `average` is the chosen one's normalised score there, in percent "
    "of the expert's on the same rows. The experts and the routers chose their epoch on rows of the same split."
)


def choices_section(files: Sequence[Path]) -> list[str]:
    """Parts of a table's Markdown about choices: nothing where nothing was chosen. files: what stage choose wrote."""
    if not files:
        return []
    found = [read_json(file) for file in files]
    lines = [
        {
            "model": one["name"],
            "chosen": described(one["chosen"]),
            "tried": tried(one["options"]),
            "combinations": str(len(one["candidates"])),
            "rows a task": counted(one["rows"]),
            "average": float(one["average"]),
        }
        for one in found
    ]
    return [SAYS, markdown_table(pd.DataFrame(lines))]


def chosen_line(chosen: Mapping[str, Any]) -> str:
    """One line for a card, from merge.json's `chosen`."""
    values, rows = chosen["values"], counted(chosen["validation_rows"])
    return f"{described(values)}, chosen on {rows} validation rows a task, of {tried(chosen['tried'])}"


def tried(options: Mapping[str, Sequence[Any]]) -> str:
    """`density 0.1, 0.2; scaling 0.3, 1`"""
    return "; ".join(f"{path} {listed(values)}" for path, values in options.items())


def counted(rows: Mapping[str, int]) -> str:
    """`500`, or `277 to 500`."""
    counts = sorted(set(rows.values()))
    return f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
