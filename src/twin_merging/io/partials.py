"""Where something is written that is not yet whole: beside its place, under a name that tells whose it is.

`.{name}.{machine}-{process}-{began}-{count}.partial`: no two calls write to one, and what a killed process left behind
is known as such.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from hashlib import sha256
from itertools import count
from pathlib import Path

_OWNER = re.compile(r"([0-9a-f]{8})-(\d+)-(\d+)-\d+")
_COUNT = count()
_LONGEST = 150  # bytes of a name that are kept; file systems take 255 in all
_ABANDONED = 24 * 3600  # seconds without a change, after which another machine's is taken for left behind


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Yield a path of this call's own in the folder of `path`, which is made; nothing is there. What is there when the
    block ends is removed. What killed processes left beside `path` is removed first."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_left_behind(path)
    partial = own_name(path)
    try:
        yield partial
    finally:
        remove(partial)


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`, which is removed when the block ends."""
    with beside(path) as partial:
        partial.mkdir()
        yield partial


def own_name(path: Path) -> Path:
    """A path beside `path` that no other call gets, of this process or another."""
    process = os.getpid()
    return path.with_name(f".{_stem(path)}.{_machine()}-{process}-{_began(process) or 0}-{next(_COUNT)}.partial")


def remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it, as far as the system lets us."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _stem(path: Path) -> str:
    """A path's name, or a hash of one that would leave no room."""
    name = os.fsencode(path.name)
    return path.name if len(name) <= _LONGEST else sha256(name).hexdigest()


def _remove_left_behind(path: Path) -> None:
    begins, ends = f".{_stem(path)}.", ".partial"
    with suppress(OSError):  # a folder that may be written and not read
        for name in os.listdir(path.parent):
            if name.startswith(begins) and name.endswith(ends):
                owner = _OWNER.fullmatch(name[len(begins) : -len(ends)])
                if owner and _is_left_behind(path.parent / name, owner[1], int(owner[2]), int(owner[3])):
                    remove(path.parent / name)


def _is_left_behind(partial: Path, machine: str, process: int, began: int) -> bool:
    """Whether the process that began a partial file or folder is gone. Of another machine's, its age tells."""
    if machine == _machine():
        return not _runs(process, began)
    return time.time() - _changed(partial) > _ABANDONED


def _changed(path: Path) -> float:
    """When a file, or anything in a folder, last changed."""
    inside = path.rglob("*") if path.is_dir() and not path.is_symlink() else ()
    times = [0.0]
    for part in (path, *inside):
        with suppress(OSError):
            times.append(part.lstat().st_mtime)
    return max(times)


def _runs(process: int, began: int) -> bool:
    """Whether a process is alive that began then. In doubt it is."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return _began(process) in (began, None)


def _began(process: int) -> int | None:
    """When a process began, in ticks since its machine did; -1 for one that has ended and was not waited for; None
    where the system does not tell (it is another user's, or there is no /proc)."""
    try:
        fields = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return -1 if fields[0] in (b"Z", b"X") else int(fields[19])


@cache
def _machine() -> str:
    """Eight digits for what a process's number belongs to: a machine since it was started, or a container on it."""
    known = [platform.node()]
    with suppress(OSError):
        known.append(Path("/proc/sys/kernel/random/boot_id").read_text())
    with suppress(OSError):
        known.append(os.readlink("/proc/self/ns/pid"))
    return sha256("\n".join(known).encode(errors="replace")).hexdigest()[:8]
