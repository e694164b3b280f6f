"""What a whole run of the quickstart suite takes, and whether two versions of the workflow give the same bytes.

    python benchmarks/quickstart.py BEFORE AFTER

BEFORE and AFTER are clones in which `make install` was run and that hold no results yet. Each is run in turn, by its
own `snakemake --cores 2`. Printed are the wall time; the processor time (user and system) of all processes that the
call started, those included that it did not wait for; and the files of results/quickstart and results/tables that
differ.
"""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from twin_merging.io.files import sha256

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h: processes whose parent ends become ours, so that their time is counted
MEASURED = ("logs", "benchmarks", "records")


def run(folder: Path, arguments: list[str]) -> tuple[float, float]:
    """Wall and processor time of one call, in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    with open(folder.with_name(f"{folder.name}.out"), "w") as stream:
        command = [str(folder / ".venv/bin/snakemake"), "--cores", "2", *arguments]
        subprocess.run(command, cwd=folder, stdout=stream, stderr=subprocess.STDOUT, check=True)
    seconds = time.monotonic() - began
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file that a run makes, but for logs, measured times and records."""
    results = folder / "results"
    files = [file for part in ("quickstart", "tables") for file in (results / part).rglob("*") if file.is_file()]
    inside = {file.relative_to(results): file for file in files if file.name != ".snakemake_timestamp"}
    return {str(name): sha256(file) for name, file in sorted(inside.items()) if not set(MEASURED) & set(name.parts)}


def main() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    folders = [Path(name).resolve() for name in sys.argv[1:]]
    found = []
    for folder in folders:
        wall, processor = run(folder, [])
        print(f"{folder.name}: {wall:.1f} s, {processor:.1f} s of processor time", flush=True)
        found.append((processor, hashes(folder)))
    if len(found) == 2:
        (before, old), (after, new) = found
        print(f"processor time: {after / before:.2f} of before")
        print(f"{len(old)} files before, {len(new)} after")
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name):
                print(
                    f"  {name}: {'not there before' if name not in old else 'gone' if name not in new else 'differs'}"
                )


if __name__ == "__main__":
    main()
