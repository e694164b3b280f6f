"""The commands `runs` and `diff`: which runs a results folder keeps, and what differs between two."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

CHANGED = 1  # exit code of `diff --fail-on-change` where something differs

NAMES = (
    "A run is named by its snapshot's file; by a results folder (the run that it holds now; --suite names one of "
    "several); by SUITE or SUITE@N, the N-th last run (1: that which the results hold now); or by the first digits of "
    "its hash. A table (.csv), also one of a commit as COMMIT:PATH, gives its scores alone."
)


def add_runs(command: argparse.ArgumentParser) -> None:
    command.set_defaults(command=_runs)
    command.description = "A run is a finished table that is kept as results/SUITE/runs/TIME-HASH.json."
    command.add_argument("suite", nargs="?", metavar="SUITE", help="a suite's name (every suite that has runs)")
    _add_common(command)


def add_diff(command: argparse.ArgumentParser) -> None:
    command.set_defaults(command=_diff)
    command.description = NAMES
    command.add_argument("old", metavar="A", help="the run to compare with")
    command.add_argument("new", metavar="B", help="the run to compare")
    command.add_argument("--suite", metavar="SUITE", help="which suite of a results folder with several")
    command.add_argument("--fail-on-change", action="store_true",
                         help="exit code 1 where anything but times differs")  # fmt: skip
    _add_common(command)


def _add_common(command: argparse.ArgumentParser) -> None:
    command.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="(%(default)s)")
    command.add_argument("--json", action="store_true", help="write JSON instead of Markdown")


def _runs(given: dict[str, Any]) -> None:
    from twin_merging.errors import UserError, unknown
    from twin_merging.reporting.runs.history import list_of_runs
    from twin_merging.reporting.runs.kept import FOLDER, suites_of
    from twin_merging.reporting.runs.markdown import runs_as_markdown

    results: Path = given["results"]
    known = suites_of(results)
    if not known:
        raise UserError(f"{results}: holds no runs; make a table: snakemake --cores all -- {results}/tables/SUITE.csv")
    if given["suite"] not in (None, *known):
        raise UserError(f"{results}: {unknown('suite', given['suite'], known)}")
    chosen = [given["suite"]] if given["suite"] else known
    found = [run for suite in chosen for run in list_of_runs(results / suite / FOLDER)]
    print(json.dumps(found, indent=2, ensure_ascii=False) if given["json"] else runs_as_markdown(found))


def _diff(given: dict[str, Any]) -> int:
    from twin_merging.reporting.runs.difference import difference
    from twin_merging.reporting.runs.markdown import difference_as_markdown
    from twin_merging.reporting.runs.naming import run_named

    old, new = (run_named(given[side], given["results"], given["suite"]) for side in ("old", "new"))
    found = difference(old, new, threads=os.cpu_count() or 1)
    print(json.dumps(found, indent=2, ensure_ascii=False) if given["json"] else difference_as_markdown(found))
    return CHANGED if given["fail_on_change"] and not found["same"] else 0
