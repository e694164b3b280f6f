"""How a download reports: lines for the terminal and the log, not bars, since several jobs share one terminal."""

from __future__ import annotations

import logging
import time
from typing import Any

from twin_merging.jobs.run import PROGRESS

progress = logging.getLogger(PROGRESS)

EVERY = 10.0  # seconds


def report(line: str) -> None:
    """One line for the terminal and the log."""
    progress.info("%s", line)


def progress_bar(what: str) -> Any:
    """A class in the form of tqdm, for the Hub client: it reports the bytes that have come, every few seconds."""
    from tqdm.auto import tqdm

    class Lines(tqdm):
        """Shown as lines; of the client's bars only the one that counts bytes from the network."""

        def __init__(self, *args: Any, **kwargs: Any):
            self.counts = kwargs.get("unit") == "B" and "econstruct" not in str(kwargs.get("desc"))
            self.shown = time.monotonic()
            kwargs.pop("name", None)
            super().__init__(*args, **{**kwargs, "disable": False, "mininterval": 1.0})

        def display(self, msg: str | None = None, pos: int | None = None) -> bool:
            now = time.monotonic()
            if self.counts and self.n and now - self.shown >= EVERY:
                self.shown = now
                total = f" of {self.total / 1e6:.1f}" if self.total else ""
                report(f"{what}: {self.n / 1e6:.1f}{total} MB")
            return True

        def close(self) -> None:
            self.disable = True

    return Lines
