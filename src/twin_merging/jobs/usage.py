"""What a job took: time, processor time, memory, bytes read and written, in the form of Snakemake's benchmark files.

A job measures itself. Snakemake would sample the process that it started, which is not the one that works when the job
was handed over to the server (`twin_merging.jobs.server`); and the system's own counts miss no peak between samples.
"""

from __future__ import annotations

import resource
import sys
import time
from contextlib import suppress
from pathlib import Path

from twin_merging.io.files import write_text

COLUMNS = ("s", "h:m:s", "max_rss", "io_in", "io_out", "mean_load", "cpu_time")
_MEGABYTE = 2**20


def write_usage(file: Path, began: float) -> None:
    """Write one line of numbers below their names, tabs between them.

    began: `time.monotonic()` when the job began. s: seconds; max_rss: MB of memory that the job, or the largest of its
    processes, held at most; io_in, io_out: MB read from and written to disks; mean_load: percent of one core; cpu_time:
    seconds of processor time of the job and its processes.
    """
    seconds = time.monotonic() - began
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    processor = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
    read, written = _disk_bytes()
    whole = round(seconds)
    clock = f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
    load = 100 * processor / seconds if seconds else 0.0
    numbers = (f"{seconds:.4f}", clock, f"{peak_memory():.2f}", read, written, f"{load:.2f}", f"{processor:.2f}")
    write_text(file, "\t".join(COLUMNS) + "\n" + "\t".join(numbers) + "\n")


def peak_memory() -> float:
    """MiB that this process, or the largest of those that it waited for, held at most."""
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    return (
        max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        * unit
        / _MEGABYTE
    )


def _disk_bytes() -> tuple[str, str]:
    """MB that the process and those that it waited for have read from disks and written to them; NA where the system
    does not say."""
    counts = {}
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/io").read_text().splitlines():
            name, _, number = line.partition(": ")
            counts[name] = f"{int(number) / _MEGABYTE:.2f}"
    return counts.get("read_bytes", "NA"), counts.get("write_bytes", "NA")
