"""Puts every job of the workflow under observation. Python imports this by itself where PYTHONPATH names its folder.

A job's script is started anew below strace, which sees the files that native code opens too. With no strace, a hook
lists those that Python itself opens. When the job ends, what its rule declares is written beside. The environment
variable OBSERVED names the folder for both; OBSERVER is `strace` or `hook`.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

FOLDER, STRACED = os.environ.get("OBSERVED"), "OBSERVED_BY_STRACE"
# Calls of the system that read or change files; those that only ask whether one is there are left out.
CALLS = ("open,openat,openat2,creat,truncate,rename,renameat,renameat2,unlink,unlinkat,rmdir,link,linkat,symlink,"
         "symlinkat")  # fmt: skip
# What Python reports that it does: the name of the event, and which of its arguments are paths.
EVENTS = {"open": (0,), "os.truncate": (0,), "os.rename": (0, 1), "os.remove": (0,), "os.rmdir": (0,),
          "os.link": (0, 1), "os.symlink": (0, 1), "os.listdir": (0,), "os.scandir": (0,)}  # fmt: skip
LISTING = ("os.listdir", "os.scandir")


def observe(folder: Path) -> None:
    if os.environ.get("OBSERVER") == "strace" and STRACED not in os.environ:
        os.environ[STRACED] = "1"
        into = ["-o", f"{folder / str(os.getpid())}.strace"]
        options = ["-f", "--seccomp-bpf", "-y", "-s", "4096", "-e", f"trace={CALLS}", *into]
        os.execvp("strace", ["strace", *options, sys.executable, *sys.orig_argv[1:]])
    name = os.environ.pop(STRACED, None) and str(os.getppid())
    seen: dict[tuple[str, bool], None] = {}
    if name is None:
        sys.addaudithook(lambda event, arguments: seen.update(dict.fromkeys(paths_of(event, arguments))))
    atexit.register(lambda: write(folder / f"{name or os.getpid()}.json", list(seen)))


def paths_of(event: str, arguments: tuple[Any, ...]) -> Iterable[tuple[str, bool]]:
    """The paths that an event names, and whether each is a folder that is listed."""
    paths = [arguments[at] for at in EVENTS.get(event, ())]
    return [(os.fsdecode(path), event in LISTING) for path in paths if isinstance(path, str | bytes | Path)]


def write(file: Path, seen: list[tuple[str, bool]]) -> None:
    job = sys.modules["__main__"].snakemake
    declared = [*job.input, *job.output, *job.log, job.params.get("runs", "")]
    file.write_text(json.dumps({
        "rule": job.rule,
        "wildcards": dict(job.wildcards.items()),
        "declared": list(map(str, declared)),
        "kept": job.params.get("checkpoints") or job.params.get("candidates"),
        "folder": os.getcwd(),
        "seen": seen,
    }))  # fmt: skip


if FOLDER and any("/.snakemake/scripts/" in argument for argument in sys.orig_argv):
    observe(Path(FOLDER))
