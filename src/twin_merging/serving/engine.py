"""One thread owns the model: it takes rows from a queue of bounded length and answers them in one batch."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from twin_merging.errors import first_line
from twin_merging.serving.newcomers import Prefill
from twin_merging.serving.progress import Progress
from twin_merging.serving.rows import Failure, Row

log = logging.getLogger(__name__)


class FullError(Exception):
    """The queue has no room. seconds: after which some may be free."""

    def __init__(self, seconds: int):
        super().__init__(f"the queue is full; try again in {seconds} s")
        self.seconds = seconds


class ClosedError(Exception):
    """The engine takes no rows any more."""


@dataclass(frozen=True)
class Sizes:
    """batch: rows that are answered together; queue: rows that wait."""

    batch: int = 32
    queue: int = 256


@dataclass
class Counts:
    """What the engine has done since it began."""

    done: int = 0
    seconds: float = 0.0  # that answers took in the batch, together


class Answering(Protocol):
    """How the model answers rows. One thread alone may use it."""

    rows: list[Progress]  # those that are being answered

    def admit(self, rows: Sequence[Row[Any]]) -> Sequence[Progress]:
        """Read new rows. Gives those that go on, or have something to tell; the others have been answered."""

    def step(self) -> None:
        """Continue every row by one token."""

    def retire(self) -> Sequence[Progress]:
        """Take out the rows that are done, or that nobody waits for any more."""

    def clear(self) -> Sequence[Progress]:
        """Take out all rows, and forget what was read of them."""


class Engine:
    """Answers rows in one thread."""

    def __init__(self, batch: Answering, prefill: Prefill, sizes: Sizes):
        self.sizes, self.counts = sizes, Counts()
        self._batch, self._prefill = batch, prefill
        self._waiting: deque[Row[Any]] = deque()
        self._changed = threading.Condition()
        self._ends = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, seconds: float = 10.0) -> None:
        """End the thread after its present pass; rows that are not done fail."""
        with self._changed:
            self._ends = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(seconds)

    @property
    def is_well(self) -> bool:
        return self._thread.is_alive() and not self._ends

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        return len(self._batch.rows)

    def submit(self, rows: Sequence[Row[Any]]) -> None:
        """Let rows wait for their turn, all or none. Raises FullError, and ClosedError after `stop`."""
        with self._changed:
            if not self.is_well:
                raise ClosedError("the engine has stopped")
            if len(self._waiting) + len(rows) > self.sizes.queue:
                raise FullError(self._wait())
            self._waiting.extend(rows)
            self._changed.notify_all()

    def _wait(self) -> int:
        """About the seconds until a batch of the waiting rows has been answered."""
        each = self.counts.seconds / self.counts.done if self.counts.done else 1.0
        return max(1, math.ceil(each * min(len(self._waiting), self.sizes.batch) / self.sizes.batch))

    @torch.inference_mode()
    def _run(self) -> None:
        while True:
            new = self._newcomers()
            if new is None:
                break
            for rows in self._prefill.passes(new):
                self._guarded(rows)
            if self._batch.rows:
                self._guarded([])
        self._fail(self._batch.clear(), list(self._waiting), "the server ends")
        self._waiting.clear()

    def _newcomers(self) -> list[Row[Any]] | None:
        """Rows for the free places of the batch, as many as may be read before the others go on; waits while there is
        nothing to do. None at the end."""
        with self._changed:
            while not self._ends and not self._waiting and not self._batch.rows:
                self._changed.wait()
            if self._ends:
                return None
            found: list[Row[Any]] = []
            while self._waiting and len(self._batch.rows) + len(found) < self.sizes.batch:
                row = self._waiting[0]
                if not row.is_cancelled and not self._prefill.takes([*found, row]):
                    break
                self._waiting.popleft()
                if not row.is_cancelled:
                    found.append(row)
            return found

    def _admit(self, rows: Sequence[Row[Any]]) -> None:
        self._tell(self._batch.admit(rows))

    def _step(self) -> None:
        self._batch.step()
        self._tell(self._batch.rows)

    def _tell(self, rows: Sequence[Progress]) -> None:
        for row in rows:
            row.tell()
        now = time.monotonic()
        for row in self._batch.retire():
            self.counts.done += 1
            self.counts.seconds += now - (row.first or now)

    def _guarded(self, rows: Sequence[Row[Any]]) -> None:
        """Admit new rows, or without any continue those of the batch. What goes wrong with new rows fails these; with a
        pass over the batch, all that are in it."""
        try:
            self._admit(rows) if rows else self._step()
        except Exception as error:
            log.exception("the model's pass failed")
            known = {row.row for row in self._batch.rows}
            stuck = [row for row in rows if row not in known]
            self._fail([] if stuck else self._batch.clear(), stuck, first_line(error))

    def _fail(self, running: Sequence[Progress], waiting: Sequence[Row[Any]], error: str) -> None:
        for progress in running:
            progress.fail(error)
        for row in waiting:
            if not row.is_cancelled:
                row.listener(Failure(error))
