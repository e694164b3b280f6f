"""A repository in which a suite has run, from its sources to the crate of its audit."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from tests.fake_hub import FakeHub, commit_of, with_hub
from tests.tiny import make_suite
from tests.workflow.running import make_working_folder, snakemake
from twin_merging.io.files import read_json

REPO = "someone/two"
SUITE = f"""
title: Two tasks <audited>
base: {{path: inputs/base}}
tasks:
  one:
    data: {{path: inputs/data/one}}
    text: [sentence]
    labels: 2
    metric: accuracy
    expert: {{path: inputs/experts/one}}
  two:
    data: {{path: inputs/data/two}}
    text: [premise, hypothesis]
    labels: 3
    metric: accuracy
    expert: {{hub: {{repo: {REPO}, revision: {commit_of(REPO)}}}}}
router: {{shared: plain, epochs: 3, batch_size: 16}}
methods:
  plain: {{method: task_arithmetic, scaling: {{choose: [0.29, 0.5]}}}}
  twin: {{method: twin, fraction: 0.25}}
"""


def make_audited(folder: Path) -> None:
    """Write the repository to `folder`/repository. One of its experts comes from a Hub, which is gone afterwards."""
    repository = make_working_folder(folder / "repository")
    make_suite(repository / "inputs")
    (repository / "suites").mkdir()
    (repository / "suites/pinned.yaml").write_text(SUITE)
    (repository / ".gitignore").write_text("/results/\n/.snakemake/\n/log\n")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "a state"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *command], cwd=repository, check=True)
    with FakeHub().running() as hub:
        hub.add(REPO, repository / "inputs/experts/two")
        made = run(repository, "results/audit/pinned.crate.zip", **with_hub(hub, folder / "home"))
    assert made.returncode == 0, made.stderr
    (repository / "log").write_text(made.stderr)


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Make a file. `arguments`: options, and last the file."""
    options, target = arguments[:-1], arguments[-1]
    return snakemake(folder, *options, "--config", "suites=suites", "--", target, environment=environment)


def provenance_of(results: Path) -> dict[str, Any]:
    return read_json(results / "pinned" / "provenance.json")


def job(provenance: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (job for job in provenance["jobs"] if job["name"] == name)
    return found


def keeping_time(change: Callable[[Path], None], path: Path) -> None:
    """Change a file without a change of its time or size that Snakemake could see."""
    before = path.stat()
    change(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def flip_a_prediction(path: Path) -> None:
    """Task two, row 7."""
    table: Any = pd.read_parquet(path)
    table.loc[37, "output"] = (table.loc[37, "output"] + 1) % 3
    table.to_parquet(path, index=False)
