"""How much memory a process takes, with those that it started."""

from __future__ import annotations

from pathlib import Path

import psutil


def memory(process: psutil.Process) -> int:
    """Proportional set size of a process and its children, bytes."""
    total = 0
    try:
        for each in (process, *process.children(recursive=True)):
            for line in Path(f"/proc/{each.pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    except (OSError, psutil.Error):  # it has just ended
        return 0
    return total
