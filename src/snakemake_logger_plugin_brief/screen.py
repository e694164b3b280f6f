"""Where lines go: a terminal, whose last line is written over and over, or a file or pipe, which only grows."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from typing import TextIO

EVERY = 10.0  # seconds after which something is written where there is no terminal
MARGIN = 1.0  # by which it comes earlier
RED, RESET = "\033[31m", "\033[0m"
START_OVER = "\r\033[K"


class Screen:
    """Lines that stay, and one that says what is going on.

    On a terminal that one is the last line, cut to the width, so that whatever else a process writes there is not lost.
    plain: no terminal's control characters; live: whether what is going on is shown at all.
    """

    def __init__(self, stream: TextIO, plain: bool, live: bool, clock: Callable[[], float] = time.monotonic):
        self.stream = stream
        self.live = live
        self.terminal = stream.isatty() and not plain and os.environ.get("TERM", "dumb") != "dumb"
        self.interval = 1.0
        self.clock = clock
        self.last = clock()  # when something was written
        self.current = ""

    def line(self, text: str, urgent: bool = False) -> None:
        """Write lines that stay."""
        colour = (RED, RESET) if urgent and self.terminal else ("", "")
        self._write(f"{START_OVER if self.current else ''}{colour[0]}{text}{colour[1]}\n")
        if self.current:
            self._write(self.current)

    def status(self, text: str) -> None:
        """Show what is going on: at once on a terminal, else when nothing was written for some time."""
        if not self.live:
            return
        if self.terminal:
            self.current = text[: shutil.get_terminal_size().columns - 1]
            self._write(START_OVER + self.current)
        elif self.clock() - self.last >= EVERY - MARGIN:
            self._write(f"{text}\n")

    def clear(self) -> None:
        """Take the line of what is going on away."""
        if self.current:
            self._write(START_OVER)
            self.current = ""

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()
        self.last = self.clock()
