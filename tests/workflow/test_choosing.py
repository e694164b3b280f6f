"""What runs again of a suite that chooses options on validation rows: jobs write placeholders (placeholders.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny import make_suite
from tests.workflow.changes import append, edit, several
from tests.workflow.placeholders import with_placeholders
from tests.workflow.running import copy_library, jobs_of, make_working_folder, rules_of, snakemake

pytestmark = pytest.mark.workflow

MINE = "config/suites/mine.yaml"
METHODS = """methods:
  task-arithmetic: {method: task_arithmetic, scaling: {choose: [0.1, 0.3]}}
  twin: {method: twin, shared: task-arithmetic, rank: {choose: [1, 8, 2]}, temperature: {choose: [0.5, 1]}}
"""
TABLE = "results/tables/mine.csv"
TWIN = {("choose", "twin"), ("assemble", "twin"), ("predict", "twin")}
LAST = {(rule, "") for rule in ("score", "intervals", "snapshot", "tabulate")}


def test_a_choice_is_made_once_and_again_only_where_it_is_stale(tmp_path: Path) -> None:
    folder = make_working_folder(tmp_path / "run")
    copy_library(folder)
    with_placeholders(folder)
    suite = make_suite(folder / "inputs").read_text().replace(str(folder / "inputs"), "inputs")
    (folder / MINE).write_text(suite.partition("methods:")[0] + METHODS)
    run = snakemake(folder, "--", TABLE)
    assert run.returncode == 0, run.stderr
    counts = rules_of(run)
    assert {rule: counts[rule] for rule in ("answer_validation", "choose", "compress", "route", "merge")} == {
        "answer_validation": 2, "choose": 2, "compress": 2, "route": 1, "merge": 1
    }  # fmt: skip
    assert rerun(folder) == set()
    several(edit(MINE, "[1, 8, 2]", "[1, 8]"), append("results/mine/data/one/test.parquet", "other rows"))(folder)
    models = ("pretrained", "task-arithmetic", "twin", "expert-one", "expert-two")
    assert rerun(folder) == TWIN | LAST | {("predict", model) for model in models}


def rerun(folder: Path) -> set[tuple[str, str]]:
    """The jobs that a dry run plans."""
    run = snakemake(folder, "-n", "--", TABLE)
    assert run.returncode == 0, run.stderr
    assert bool(jobs_of(run)) != ("Nothing to be done" in run.stdout + run.stderr)
    return jobs_of(run)
