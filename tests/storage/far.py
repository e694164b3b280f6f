"""A run whose jobs go to machines that share no disk with this one, and whose results lie in a bucket."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.storage import machines
from tests.storage.server import Bucket
from tests.tiny import make_suite
from tests.workflow.running import command, make_working_folder, variables
from twin_merging.plan.groups import GROUPS

SUITE = """
title: Two tiny tasks, far away
base: {path: inputs/base}
tasks:
  one:
    data: {path: inputs/data/one}
    text: [sentence]
    labels: 2
    metric: accuracy
    expert: {path: inputs/experts/one}
  two:
    data: {path: inputs/data/two}
    text: [premise, hypothesis]
    labels: 3
    metric: accuracy
    expert: {finetune: {epochs: 1, learning_rate: 1.0e-2, batch_size: 16}}
router: {shared: sum, epochs: 3, batch_size: 16}
methods:
  sum: {method: task_arithmetic, scaling: 0.29}
  emr: {method: emr}
  twin: {method: twin, fraction: 0.25}
"""
SCRIPT = Path(machines.__file__)
BUCKET, PREFIX = "bucket", "some/place"
# How many jobs of each group of the rules (twin_merging.plan.groups) go to one machine.
TOGETHER = ("--group-components", *(f"{group}=100" for group in GROUPS))


def make_folder(folder: Path) -> Path:
    """A working folder with a suite of models and data in inputs/, of which one expert is made here."""
    make_working_folder(folder)
    make_suite(folder / "inputs")
    for file in (folder / "config/suites").iterdir():
        file.unlink()
    (folder / "config/suites/far.yaml").write_text(SUITE)
    return folder


class Far:
    """Snakemake in a folder, with jobs on machines of their own."""

    def __init__(self, folder: Path, server: dict[str, str]):
        self.folder, self.server = folder, server
        self.machines = folder.parent / "machines"
        self.machines.mkdir()
        self.bucket = Bucket(server, BUCKET, PREFIX)
        self.cancelling = folder.parent / "cancel"  # a command without arguments of its own
        self.cancelling.write_text(f'#!/bin/sh\nexec {sys.executable} {SCRIPT} cancel {self.machines} "$@"\n')
        self.cancelling.chmod(0o755)

    def command(self, *arguments: str, grouped: bool = True) -> list[str]:
        ours = f"{sys.executable} {SCRIPT}"
        return [
            *command(),
            *("--executor", "cluster-generic", "--jobs", "2", "--latency-wait", "10"),
            *("--cluster-generic-submit-cmd", f"{ours} submit {self.machines} {self.folder}"),
            *("--cluster-generic-status-cmd", f"{ours} status {self.machines}"),
            *("--cluster-generic-cancel-cmd", str(self.cancelling)),
            *("--seconds-between-status-checks", "1", "--shared-fs-usage", "none", "--job-deploy-sources"),
            *("--default-storage-provider", "s3", "--default-storage-prefix", f"s3://{BUCKET}/{PREFIX}"),
            *(TOGETHER if grouped else ()),
            *arguments,
        ]

    def environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}:{variables(self.folder)['PATH']}"
        library = str(Path(__file__).parents[2] / "src")
        return variables(self.folder, {**self.server, "PATH": path, "PYTHONPATH": library, "OMP_NUM_THREADS": "1"})

    def snakemake(self, *arguments: str, grouped: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments, grouped=grouped),
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )

    def outputs(self) -> str:
        """What the jobs printed, for a test that fails."""
        files = sorted(self.machines.glob("*/output"), key=lambda file: int(file.parent.name))
        return "\n".join(f"== {file.parent.name}\n{file.read_text()[-2000:]}" for file in files[-6:])

    def json(self, name: str) -> Any:
        return json.loads(self.bucket.read(name))
