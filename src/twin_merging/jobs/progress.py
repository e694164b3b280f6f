"""How far a job is: lines in its log, which Snakemake's logger shows beside the running job.

Lines and no bars, because several jobs share one terminal, and because a log is read later.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from twin_merging.jobs.run import PROGRESS, REPORT

progress = logging.getLogger(PROGRESS)
reports = logging.getLogger(REPORT)

EVERY = 5.0  # seconds between two lines


def report(line: str) -> None:
    """One line for the user and the log."""
    reports.info("%s", line)


class Progress:
    """Says every few seconds how many of `total` are done, how fast it goes, and how long the rest will take."""

    def __init__(self, total: int, unit: str, clock: Callable[[], float] = time.monotonic):
        self.total = total
        self.unit = unit
        self._clock = clock
        self._started = self._shown = clock()
        self._before: tuple[int, float] | None = None  # done when it began, in a run that goes on from another

    def update(self, done: int, share: float | None = None) -> None:
        """So many are done, and this share of the work, if that is another than theirs of the total. Writes a line if
        the last one is some seconds old."""
        now = self._clock()
        part = done / max(self.total, 1) if share is None else share
        if self._before is None:
            self._before, self._started = (done, part), now
        if now - self._shown < EVERY:
            return
        self._shown = now
        passed, new, gained = now - self._started, done - self._before[0], part - self._before[1]
        speed = ""
        if passed > 0 and new > 0 and gained > 0:
            speed = f", {new / passed:.3g} a second, {duration(passed * (1 - part) / gained)} left"
        progress.info("%d of %d %s%s", done, self.total, self.unit, speed)


def duration(seconds: float) -> str:
    """`8 s`, `1:05`, `2:00:00`"""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


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
                progress.info("%s: %.1f%s MB", what, self.n / 1e6, total)
            return True

        def close(self) -> None:
            self.disable = True

    return Lines
