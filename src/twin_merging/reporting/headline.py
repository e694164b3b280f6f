"""The few lines that `make quickstart` ends with: each model's average, and where the rest is.

python -m twin_merging.reporting.headline results/tables/quickstart.csv
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from twin_merging.errors import UserError

KNOWN = ("model", "protocol", "true_task")
AVERAGE = "avg"
OTHERS = {
    "-absolute.csv": "scores that are not normalised",
    "-experts.csv": "each expert on every task",
    "-router.csv": "accuracy and calibration of the routers",
    "-routing.csv": "rows of each task, by the task that a router chose",
    ".tex": "normalised scores with intervals, for LaTeX",
    "-cost.md": "what each model takes to store, to make and to ask",
    "-unseen.csv": "scores of tasks that a model has not merged",
}


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m twin_merging.reporting.headline results/tables/SUITE.csv", file=sys.stderr)
        return 2
    try:
        print(headline(Path(arguments[0])))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def headline(table: Path) -> str:
    """table: a suite's normalised scores, as the workflow writes them. Names the files beside it that are there."""
    try:
        with open(table, newline="") as stream:
            rows = list(csv.DictReader(stream))
    except FileNotFoundError:
        raise UserError(f"{table}: no such file; make it with: snakemake --cores all -- {table}") from None
    missing = [column for column in (*KNOWN, AVERAGE) if not rows or column not in rows[0]]
    if missing:
        raise UserError(f"{table}: no column '{missing[0]}'; it is no table of normalised scores; make it again")
    tasks = [column for column in rows[0] if column not in (*KNOWN, AVERAGE) and any(row[column] for row in rows)]
    cells = [
        [*(row[column] for column in KNOWN), f"{float(row[AVERAGE]):.2f}" if row[AVERAGE] else "-"] for row in rows
    ]
    heads, sides = ["model", "protocol", "true task", "average"], ("left", "left", "left", "right")
    parts = [
        f"100 x a model's score / the score of the task's own expert, on average over {', '.join(tasks)}:",
        tabulate(cells, headers=heads, tablefmt="simple", colalign=sides, disable_numparse=True),
        tabulate(_places(table), tablefmt="plain"),
    ]
    return "\n\n".join(parts)


def _places(table: Path) -> list[list[str]]:
    suite = table.stem
    found = [
        (_models(table).with_name("index.html"), "tables, figures and examples on one page: open it in a browser"),
        (table.with_suffix(".md"), "all tables, to read"),
        (table, "each task's normalised score"),
        *((table.with_name(f"{suite}{end}"), what) for end, what in OTHERS.items()),
        *((card, "card of a model, with how to load it") for card in sorted(_models(table).glob("*/README.md"))),
    ]
    return [[str(path), what] for path, what in found if path.is_file()]


def _models(table: Path) -> Path:
    return table.parents[1] / table.stem / "models"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
