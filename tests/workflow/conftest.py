"""A folder in which tiny suites have run, for tests that look at what a later call does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny import MADE, make_suite
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


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder in which both suites have run. Not to be changed: copy it (`cp -a`)."""
    folder = make_suites(tmp_path_factory.mktemp("finished") / "run")
    run = snakemake(folder, "--", *targets("mine", "made"))
    assert run.returncode == 0, run.stderr
    return folder
