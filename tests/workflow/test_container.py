"""The config key `container`: nothing without `--sdm apptainer`, and with it the image of every job."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.tiny import MADE
from tests.workflow.running import jobs_of, make_working_folder, snakemake

pytestmark = pytest.mark.workflow

URL = "docker://registry.example.org/twin-merging:0.1.0"
IMAGE = ("--config", f"container={URL}")
ROWS = "results/made/data/sentiment/train.parquet"
# What Snakemake asks of Apptainer. There is no container in it: a job's command runs as it stands, and is noted.
STAND_IN = """#!/bin/sh
echo "$@" >> "$CALLS"
case "$1" in
  --version) echo "apptainer version 1.3.4" ;;
  pull) touch "$3" ;;
  *) while [ $# -gt 2 ]; do shift; done; exec bash -c "$2" ;;
esac
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder in which one job has run, without a container."""
    folder = make_working_folder(tmp_path_factory.mktemp("container") / "here")
    (folder / "config/suites/made.yaml").write_text(MADE)
    (folder / "bin").mkdir()
    (folder / "bin/apptainer").write_text(STAND_IN)
    (folder / "bin/apptainer").chmod(0o755)
    run = snakemake(folder, "--", ROWS)
    assert run.returncode == 0, run.stderr
    return folder


def test_without_apptainer_it_changes_nothing(folder: Path) -> None:
    run = snakemake(folder, "-n", *IMAGE, "--", ROWS)
    assert "Nothing to be done" in run.stdout + run.stderr


def test_with_apptainer_every_job_runs_in_the_image(folder: Path) -> None:
    calls = folder / "calls"
    # There is a `python` in an image.
    paths = [str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
    environment = {"CALLS": str(calls), "PATH": ":".join(paths)}
    before = (folder / ROWS).read_bytes()
    run = snakemake(folder, "--sdm", "apptainer", *IMAGE, "--forcerun", "generate_data", "--", ROWS,
                    environment=environment)  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert ("generate_data", "sentiment") in jobs_of(run)
    said = calls.read_text().splitlines()
    assert sum(line.startswith("pull ") and line.endswith(URL) for line in said) == 1
    assert sum(" exec " in f" {line}" and "generate_data.py" in line for line in said) == 1
    assert (folder / ROWS).read_bytes() == before
