"""What a job says on the terminal, and what it leaves to a logger of Snakemake that shows it from the job's log."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.workflow.running import variables
from twin_merging.jobs.run import LOGGER

JOB = """
import sys
from types import SimpleNamespace
from twin_merging.errors import UserError
from twin_merging.jobs import progress
from twin_merging.jobs.run import run_job

class Names(list):
    def get(self, name, default=None):
        return default
    def items(self):
        return []

def main(job):
    progress.EVERY = 0.0
    progress.report("base: 3.0 MB to download")
    progress.Progress(9, "rows").update(3)
    raise UserError("data.csv: no column 'label'; add it")

log = Names([sys.argv[1]])
run_job(SimpleNamespace(log=log, output=Names(), input=Names(), params=SimpleNamespace(settings={}),
                        wildcards=Names(), rule="score"), main)
"""
SAID = ["base: 3.0 MB to download", "3 of 9 rows", "error: data.csv: no column 'label'; add it"]


def job(log: Path, logger: str) -> list[str]:
    """What a job that fails writes to its terminal."""
    found = subprocess.run(
        [sys.executable, "-c", JOB, str(log)], cwd=log.parent, env=variables(log.parent, {LOGGER: logger}),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 1
    return (found.stdout + found.stderr).splitlines()


def test_a_job_says_it_on_the_terminal_and_in_its_log(tmp_path: Path) -> None:
    assert job(tmp_path / "log", "") == SAID
    assert [line.split(": ", 1)[-1] if "twin_merging" in line else line for line in log_of(tmp_path)] == SAID


def test_where_a_logger_shows_it_the_terminal_is_left_to_that(tmp_path: Path) -> None:
    assert job(tmp_path / "log", "brief") == []
    assert len(log_of(tmp_path)) == len(SAID)


def test_a_sentence_that_the_log_cannot_take_goes_to_the_terminal() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no device that is always full")
    assert job(Path("/dev/full"), "brief")[-1:] == SAID[-1:]


def log_of(folder: Path) -> list[str]:
    return (folder / "log").read_text().splitlines()
