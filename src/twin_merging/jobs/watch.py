"""A job that ends when the Snakemake that started it is gone.

A job left behind by a killed Snakemake would write beside the same job of the next call.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

STARTED_BY = "TWIN_MERGING_STARTED_BY"  # environment variable: the process that starts jobs
INTERVAL = 0.1  # seconds


def end_with(process: str | None, end: Callable[[int], object] = os._exit) -> None:
    """Watch a process from a thread, and end this one when it is gone. Nothing is watched where none is given."""
    if process and process.isdigit():
        threading.Thread(target=_watch, args=(int(process), end), daemon=True).start()


def _watch(process: int, end: Callable[[int], object]) -> None:
    while _runs(process):
        time.sleep(INTERVAL)
    end(1)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True
