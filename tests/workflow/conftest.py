"""Folders in which tiny suites have run. All test processes share them, so no test changes one: `copied` (faulty.py)
gives a copy."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sharing import made_once
from tests.tiny import MADE, make_suite
from tests.workflow.audited import make_audited
from tests.workflow.placeholders import with_placeholders
from tests.workflow.running import copy_library, make_working_folder, snakemake

CARDS = {"mine": ("task-arithmetic", "twin-onepass"), "made": ("twin",)}


def targets(*suites: str) -> list[str]:
    """A suite's table and some of its cards."""
    return [
        file
        for suite in suites
        for file in (
            f"results/tables/{suite}.csv",
            *(f"results/{suite}/models/{method}/README.md" for method in CARDS[suite]),
        )
    ]


def make_suites(folder: Path) -> Path:
    """A working folder that holds all it needs: the workflow, the library, and the suites `mine` (of models and data
    in inputs/) and `made` (which makes everything itself)."""
    make_working_folder(folder)
    copy_library(folder)
    suite = make_suite(folder / "inputs")
    (folder / "config/suites/mine.yaml").write_text(suite.read_text().replace(str(folder / "inputs"), "inputs"))
    (folder / "config/suites/made.yaml").write_text(MADE)
    return folder


def run_suites(folder: Path) -> None:
    run = snakemake(folder, "--", *targets("mine", "made"))
    assert run.returncode == 0, run.stderr


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder in which both suites have run."""
    return made_once(tmp_path_factory, "finished", lambda folder: run_suites(make_suites(folder)))


@pytest.fixture(scope="session")
def placeholders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, but the jobs have written placeholders: for tests of which jobs run, and of nothing else."""
    return made_once(
        tmp_path_factory, "placeholders", lambda folder: run_suites(with_placeholders(make_suites(folder)))
    )


@pytest.fixture(scope="session")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository in which a suite has run and been audited (audited.py)."""
    return made_once(tmp_path_factory, "audited", make_audited) / "repository"
