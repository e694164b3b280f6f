"""How much a store holds, what goes when it holds too much, and whether its files are whole."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twin_merging.io.files import sha256
from twin_merging.io.partials import remove
from twin_merging.io.store import ENTRIES, FILES, DamagedError, Store, read_entry

TRIMMED = "trimmed"  # a file whose time says when the store was last looked at
EVERY = 60.0  # seconds
_YOUNG = 3600.0  # seconds in which a file without an entry may be one whose entry is being written


@dataclass(frozen=True)
class Kept:
    """An entry as it lies in a store. used: when it was put in or last taken, in seconds since 1970."""

    group: str
    key: str
    used: float
    content: dict[str, Any]

    @property
    def names(self) -> set[str]:
        """SHA-256 of its files."""
        return set(self.content.get("kept", ()))


def entries(store: Store) -> list[Kept]:
    """All whole entries, those that were used longest ago first; entries that are not whole are removed."""
    found = []
    for file in sorted(Path(store.root, ENTRIES).glob("*/*.json")):
        try:
            found.append(Kept(file.parent.name, file.stem, file.stat().st_mtime, read_entry(file)))
        except DamagedError:
            remove(file)
        except OSError:  # another process has removed it
            continue
    return sorted(found, key=lambda kept: (kept.used, kept.key))


def sizes(store: Store) -> dict[str, int]:
    """Bytes that removing a file would free, by SHA-256: 0 where another name, such as a result's, keeps it."""
    return {name: state.st_size if state.st_nlink == 1 else 0 for name, state in _states(store)}


def default_limit(store: Store) -> int:
    """A tenth of the disk that the store lies on, in bytes."""
    place = store.root.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).total // 10


def trim(store: Store, limit: int) -> int:
    """Remove what was used longest ago until the rest is at most so many bytes; gives how many were freed.

    Bytes that removing would not free do not count. What killed processes left, and files that no entry names, go too.
    """
    kept, held = entries(store), sizes(store)
    users = Counter(name for entry in kept for name in entry.names)
    freed = _remove_left(store, users)
    total = sum(held[name] for name in users if name in held)
    for entry in kept:
        if total <= limit:
            break
        frees = sum(held.get(name, 0) for name in entry.names if users[name] == 1)
        if not frees and any(held.get(name, 0) == 0 for name in entry.names):
            continue  # in use: removing it makes no room
        store.drop(entry.group, entry.key)
        for name in entry.names:
            users[name] -= 1
            if not users[name] and name in held:
                remove(store.file(name))
                total, freed = total - held[name], freed + held[name]
    return freed


def trim_now_and_then(store: Store, limit: int) -> None:
    """The same, where no process has looked for a minute, and there is too much. What cannot be removed stays."""
    stamp = store.root / TRIMMED
    with suppress(OSError):
        if not stamp.exists() or time.time() - stamp.stat().st_mtime > EVERY:
            stamp.touch()
            if sum(sizes(store).values()) > limit:
                trim(store, limit)


def damaged(store: Store) -> list[str]:
    """Remove every file whose content is not that of its name, and every entry that is not whole or lacks a file; gives
    a sentence for each."""
    said = []
    for name, _ in _states(store):
        if sha256(store.file(name)) != name:
            said.append(f"{store.file(name)}: its content is not that of its name")
            remove(store.file(name))
    for file in sorted(Path(store.root, ENTRIES).glob("*/*.json")):
        try:
            missing = [name for name in read_entry(file).get("kept", ()) if not store.file(name).is_file()]
            if missing:
                raise DamagedError(f"{file}: its file {missing[0]} is missing")
        except DamagedError as error:
            said.append(str(error))
            remove(file)
    return said


def clear(store: Store) -> None:
    """Remove all that the store holds, and nothing else."""
    for name in (ENTRIES, FILES, TRIMMED):
        remove(store.root / name)
    with suppress(OSError):
        store.root.rmdir()


def _states(store: Store) -> Iterator[tuple[str, os.stat_result]]:
    for file in sorted(Path(store.root, FILES).glob("??/*")):
        with suppress(OSError, DamagedError):
            state = file.lstat()
            if store.file(file.name) == file:
                yield file.name, state


def _remove_left(store: Store, users: Counter[str]) -> int:
    """Remove files that no entry names, parts of killed processes among them, unless they are young."""
    freed, before = 0, time.time() - _YOUNG
    for file in [*Path(store.root, FILES).glob("??/*"), *Path(store.root, ENTRIES).glob("*/.*.partial")]:
        with suppress(OSError):
            state = file.lstat()
            if file.name not in users and state.st_ctime < before:
                remove(file)
                freed += state.st_size if state.st_nlink == 1 else 0
    return freed
