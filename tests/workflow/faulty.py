"""Disturbing a run: started in a group of processes of its own, watched, and hit while a given stage works."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.workflow.running import STORE, command, snakemake, variables

KINDS = ("group", "main", "job")  # what a kill hits: Snakemake and its jobs, Snakemake alone, or one job


@dataclass
class Run:
    """A run that is under way."""

    folder: Path
    process: subprocess.Popen[str]
    output: Path

    @property
    def text(self) -> str:
        return self.output.read_text()

    def jobs(self) -> dict[int, str]:
        """The scripts of the jobs that work now, by process."""
        found = {}
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((directory / "stat").read_text().rpartition(")")[2].split()[1])
                words = (directory / "cmdline").read_bytes().decode().split("\0")
            except (OSError, IndexError):
                continue
            script = next(
                (match[1] for word in words if (match := re.search(r"\.snakemake/scripts/\w+\.(\w+)\.py$", word))), None
            )
            if parent == self.process.pid and script:
                found[int(directory.name)] = script
        return found

    def wait_for(self, rule: str, seconds: float = 300) -> bool:
        """Wait until a job of the rule has begun; whether it did before the run ended."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if re.search(rf"^(local)?rule {rule}:", self.text, flags=re.M):
                return True
            if self.process.poll() is not None:
                return False
            time.sleep(0.02)
        return False

    def hit(self, kind: str, number: int = signal.SIGKILL, script: str | None = None) -> str | None:
        """Send a signal. Returns the script of the job that was hit, or the scripts that worked; None if too late."""
        jobs = self.jobs()
        if self.process.poll() is not None:
            return None
        if kind == "job":
            hit = [process for process, name in jobs.items() if script in (None, name)] or list(jobs)
            if not hit:
                return None
            try:
                os.kill(hit[0], number)
            except ProcessLookupError:
                return None
            return jobs[hit[0]]
        (os.killpg if kind == "group" else os.kill)(self.process.pid, number)
        return ", ".join(sorted(set(jobs.values()))) or "between jobs"

    def end(self, seconds: float = 300) -> int:
        return self.process.wait(seconds)


def start(folder: Path, wanted: Iterable[str], *arguments: str, **more: Any) -> Run:
    """Start a run that makes files; its output goes to a file beside the folder."""
    output = folder.with_name(f"{folder.name}.out")
    with open(output, "w") as stream:
        process = subprocess.Popen(
            command(*arguments, "--", *wanted),
            cwd=folder,
            env=variables(folder),
            stdout=stream,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            **more,
        )
    atexit.register(_end, process)
    return Run(folder, process, output)


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


def copied(folder: Path, to: Path) -> Path:
    """A copy of a working folder, with its times."""
    shutil.rmtree(to, ignore_errors=True)
    subprocess.run(["cp", "-a", str(folder), str(to)], check=True)
    return to


def undone(folder: Path, wanted: Iterable[str], *rules: str) -> None:
    """Take away what the jobs of rules made, and all that was made from it on the way to the wanted files; from the
    store too, so that the jobs work."""
    shutil.rmtree(folder / STORE, ignore_errors=True)
    run = snakemake(folder, "-n", "--forcerun", *rules, "--", *wanted)
    outputs = re.findall(r"^    output: (.*)$", run.stdout + run.stderr, flags=re.M)
    for path in (folder / name for line in outputs for name in line.split(", ")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def go_on(folder: Path, wanted: Iterable[str], unlock: bool = True) -> subprocess.CompletedProcess[str]:
    """One more call, as the documentation says."""
    if unlock:
        snakemake(folder, "--unlock")
    return snakemake(folder, "--", *wanted)


def left_over(folder: Path) -> list[str]:
    """Files that only a job under way has."""
    inside = [path.relative_to(folder) for path in (folder / "results").rglob("*")]
    return sorted(str(path) for path in inside if path.name.endswith(".partial") or path.parent.name == "checkpoints")
