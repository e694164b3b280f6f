"""Holding a job at the moment when a file that it has written is about to get its name.

A test that kills a job, or looks at a run while a job works, then hits that moment every time, however fast jobs are.
"""

from __future__ import annotations

import time
from pathlib import Path

# Python reads a module of this name at its start. The folder's `src` is where its processes look for modules first, and
# the module is part of no job's digest.
MODULE = "src/sitecustomize.py"
CODE = '''"""For a test: whoever would give a file of this name its place waits until the file `go` is there."""
import os, re, time
place = os.replace

def held(source, target, **more):
    if re.search({pattern!r}, str(target)):
        with open({folder!r} + "/held", "a") as stream:
            stream.write(str(os.getpid()) + "\\n")
        while not os.path.exists({folder!r} + "/go"):
            time.sleep(0.02)
    return place(source, target, **more)

os.replace = held
'''


def hold(folder: Path, pattern: str) -> None:
    """Hold the jobs of a working folder that write a file whose path matches the pattern."""
    (folder / MODULE).write_text(CODE.format(pattern=pattern, folder=str(folder)))


def let_go(folder: Path) -> None:
    (folder / "go").touch()


def held(folder: Path, seconds: float = 240) -> list[int]:
    """The processes that are held, once there is one. None: there is none within that time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if (folder / "held").exists() and (found := (folder / "held").read_text().split()):
            return [int(process) for process in found]
        time.sleep(0.02)
    return []


def gone(processes: list[int], seconds: float = 20) -> bool:
    """Whether processes end within that time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not any(_runs(process) for process in processes):
            return True
        time.sleep(0.05)
    return False


def _runs(process: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
