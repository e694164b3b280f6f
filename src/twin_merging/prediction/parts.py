"""What is answered of a job, kept on disk, so that an interrupted job goes on from there."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from twin_merging.io.files import read_json, write_json

EVERY = 20.0  # seconds of answering between two parts: a job that takes less writes none
KEY = "key.json"

Batch = list[dict[str, Any]]  # what is stored of each row of a batch


class Parts:
    """The batches that are answered, by number. New ones are written every few seconds, each part whole, as a file of
    the folder; a job of the same key finds them there, and one of another removes them. Jobs that answer shards of the
    same rows at the same time share the folder: each writes batches of its own.

    key: what tells a job from others, computed only where a part is read or written: a digest of settings and inputs.
    """

    def __init__(self, folder: Path | None, key: Callable[[], str], clock: Callable[[], float] = time.monotonic):
        self.batches: dict[int, Batch] = {}
        self._folder, self._key, self._clock = folder, key, clock
        self._new: dict[int, Batch] = {}
        self._written = clock()
        if folder is not None and folder.is_dir():
            self._read(folder)

    @classmethod
    def none(cls) -> Self:
        """Kept in memory alone."""
        return cls(None, str)

    def add(self, number: int, batch: Batch) -> None:
        self.batches[number] = self._new[number] = batch
        if self._folder is not None and self._clock() - self._written >= EVERY:
            self._write(self._folder)

    def remove(self) -> None:
        """Called when the job has ended well."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _read(self, folder: Path) -> None:
        try:
            is_ours = read_json(folder / KEY)["key"] == self._key()
        except (OSError, ValueError):  # killed before the first part
            is_ours = False
        if not is_ours:
            (folder / KEY).unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)  # where another shard's job does the same
            return
        for file in sorted(folder.glob("[0-9]*.json")):
            self.batches |= {int(number): batch for number, batch in read_json(file).items()}

    def _write(self, folder: Path) -> None:
        if not (folder / KEY).is_file():
            write_json(folder / KEY, {"key": self._key()})
        write_json(folder / f"{min(self._new)}.json", {str(number): batch for number, batch in self._new.items()})
        self._new, self._written = {}, self._clock()
