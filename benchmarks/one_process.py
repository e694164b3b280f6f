"""What each of several merges costs, after one import of what they need. Imports nothing of this project."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path


def print_costs(merge: Callable[[str, str], None], pairs: Sequence[str]) -> None:
    """Merge each config of (config, output, config, output, ...) in a fork of this process, one after the other, and
    print a line `cost SECONDS MIB` for each: of processors, and the largest resident memory above that before."""
    for config, output in zip(pairs[::2], pairs[1::2], strict=True):
        child = os.fork()
        if not child:
            Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
            before, began = _resident("VmRSS"), time.process_time()
            merge(config, output)
            print("cost", time.process_time() - began, _resident("VmHWM") - before, flush=True)
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            raise RuntimeError(f"{config}: failed")


def _resident(what: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) / 1024
    raise ValueError(what)
