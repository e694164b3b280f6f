"""What each of several merges costs that one process does, one after the other. Imports nothing of this project."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path


def print_costs(merge: Callable[[str, str], None], pairs: Sequence[str]) -> None:
    """Merge each config of (config, output, config, output, ...), and print a line `cost SECONDS MIB` for each: of
    processors, and the largest resident memory above that before."""
    for config, output in zip(pairs[::2], pairs[1::2], strict=True):
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
        before, began = _resident("VmRSS"), time.process_time()
        merge(config, output)
        print("cost", time.process_time() - began, _resident("VmHWM") - before, flush=True)


def _resident(what: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) / 1024
    raise ValueError(what)
