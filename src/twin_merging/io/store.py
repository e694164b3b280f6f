"""A store: a folder that keeps files by the SHA-256 of their content, and entries that name some of them by a key.

    files/{two digits}/{sha256}     content, each file once; may be a second name (hard link) of a file elsewhere
    entries/{group}/{key}.json      an entry: JSON with a hash of itself

What a killed process leaves is never used: a file gets its name when it is whole, an entry is written after its files,
and every file is hashed when it is taken. Several processes may write at once: what they write under one name is the
same. Nothing waits for a lock: a file that another process has just removed is as one that was never there.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from twin_merging.io.files import copy_file, sha256
from twin_merging.io.partials import beside, remove

FILES, ENTRIES = "files", "entries"
_SHA256 = re.compile(r"[0-9a-f]{64}")


class DamagedError(Exception):
    """A file or an entry of a store is not what was put in; the message names it."""


class Store:
    """A store in a folder, which is made when something is put in.

    own: whether the folder is this user's alone, so that files in it may share their content with files elsewhere.
    """

    def __init__(self, root: Path, own: bool = True):
        self.root, self.own = Path(root), own

    def __str__(self) -> str:
        return str(self.root)

    def group(self, group: str) -> Path:
        return self.root / ENTRIES / group

    def entry_file(self, group: str, key: str) -> Path:
        return self.group(group) / f"{key}.json"

    def entry(self, group: str, key: str) -> dict[str, Any] | None:
        """What was put in under a key; None where nothing was. Raises DamagedError."""
        file = self.entry_file(group, key)
        return read_entry(file) if self._is_inside(file) else None

    def put(self, group: str, key: str, content: Mapping[str, Any], files: Mapping[str, Path]) -> None:
        """Keep files, by their SHA-256, and then an entry in the place of an earlier one. Raises OSError."""
        for name, file in files.items():
            self._keep(name, file)
        text = json.dumps(content, ensure_ascii=False)
        whole = f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}\n"
        place = self.entry_file(group, key)
        with beside(place) as partial:
            partial.write_text(whole, encoding="utf-8")
            os.replace(partial, place)

    def take(self, name: str, target: Path) -> None:
        """Give a target the content of this SHA-256: a second name of the file where nothing else has one, a copy
        otherwise. Raises DamagedError where the store's file is another one's content, or is gone.

        One file under two names has one time of change. Snakemake sets that of each output when its job has ended, and
        so would make another suite's file look newer than what was made from it.
        """
        source = self.file(name)
        if not self._is_inside(source):
            raise DamagedError(f"{source}: not there")
        with beside(target) as partial:
            if not self._linked(source, partial):
                copy_file(source, partial)
            if sha256(partial) != name:
                raise DamagedError(f"{source}: its content is not that of its name")
            os.utime(partial)
            os.replace(partial, target)

    def mark_used(self, group: str, key: str) -> None:
        """The entries that were used longest ago go first."""
        with suppress(OSError):
            os.utime(self.entry_file(group, key))

    def drop(self, group: str, key: str, names: Iterable[str] = ()) -> None:
        """Remove an entry, and the files of these SHA-256 whose content is another, as far as the system lets us."""
        remove(self.entry_file(group, key))
        for name in names:
            file = self.file(name)
            with suppress(OSError):
                if not self._is_inside(file) or sha256(file) != name:
                    remove(file)

    def file(self, name: str) -> Path:
        """Where the content of a SHA-256 lies. Raises DamagedError for what is none."""
        if not _SHA256.fullmatch(name):
            raise DamagedError(f"{self.root}: an entry names a file '{name}', which is no SHA-256")
        return self.root / FILES / name[:2] / name

    def _keep(self, name: str, file: Path) -> None:
        place = self.file(name)
        can_be_one = self.own and file.stat().st_nlink == 1
        is_there = self._is_inside(place) and place.stat().st_size == file.stat().st_size
        if is_there and (not can_be_one or place.stat().st_nlink > 1):
            with suppress(OSError):  # another user's
                os.utime(place, (time.time(), place.stat().st_mtime))  # no clean-up takes it for left behind
            return
        with beside(place) as partial:
            if not (can_be_one and _link(file, partial)):
                copy_file(file, partial)
            os.replace(partial, place)

    def _linked(self, source: Path, target: Path) -> bool:
        """Whether the target is now a second name of a file that had one, and the first that it has."""
        state = source.lstat()
        if not self.own or state.st_nlink != 1 or state.st_uid != os.getuid() or not _link(source, target):
            return False
        if os.stat(target).st_nlink == 2:
            return True
        remove(target)  # another job was as fast
        return False

    def _is_inside(self, file: Path) -> bool:
        """Whether a file is there, in the store and no link that leads out of it."""
        inside = Path(os.path.realpath(self.root), file.relative_to(self.root))
        return file.is_file() and Path(os.path.realpath(file)) == inside


def read_entry(file: Path) -> dict[str, Any]:
    """An entry's content. Raises DamagedError."""
    try:
        found, _, text = file.read_text(encoding="utf-8").partition("\n")
        content = json.loads(text)
    except (OSError, ValueError) as error:
        raise DamagedError(f"{file}: cannot be read ({type(error).__name__})") from None
    if hashlib.sha256(text.removesuffix("\n").encode()).hexdigest() != found:
        raise DamagedError(f"{file}: its content is not that of its hash")
    return content


def _link(source: Path, target: Path) -> bool:
    """Give a file a second name, where the system can."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        return False
    return True
