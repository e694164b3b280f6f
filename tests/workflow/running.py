"""Running the workflow in a folder of its own, as a user would."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def make_working_folder(folder: Path) -> Path:
    """A folder with the workflow's files in it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("workflow", "config", "profiles"):
        shutil.copytree(REPOSITORY / name, folder / name)
    for name in ("Snakefile", "environment.yml"):
        shutil.copy(REPOSITORY / name, folder / name)
    return folder


def snakemake(
    folder: Path, *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Snakemake on two cores in `folder`, without a network unless `environment` says otherwise."""
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
    variables = {**os.environ, "HF_HUB_OFFLINE": "1", **(environment or {})}
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)


def rules_of(run: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """How often each rule would run (or ran), from the table of jobs that Snakemake prints."""
    found = re.search(r"^job +count\n-[- ]+\n(.*?)^total", run.stdout + run.stderr, flags=re.S | re.M)
    lines = found[1].splitlines() if found else []
    return {name: int(count) for name, count in (line.split() for line in lines if line.strip())}
