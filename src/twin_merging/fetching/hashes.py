"""Hashes of files, as a Hub or a mirror of one states them: in its listing, as a file's ETag, and so in a lock.

Written as kind:digits. 64 hexadecimal digits are a SHA-256. 40 are what git names a file by (`git-blob`); mirrors on
artefact servers state a file's plain SHA-1 in its place, and either is right. Anything else (an MD5, also one with a
count of parts, an identifier) is no hash of a file's content, and nothing is compared with it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from twin_merging.io.files import sha256

SHA256, BLOB = "sha256", "git-blob"
_KINDS = {64: SHA256, 40: BLOB}


def hash_of(digits: str | None) -> str | None:
    """kind:digits of what a server states; None where that is no hash."""
    kind = _KINDS.get(len(digits or ""))
    return f"{kind}:{digits.lower()}" if kind and digits and re.fullmatch("[0-9a-fA-F]+", digits) else None


def is_hash(text: str) -> bool:
    """Whether a text is a hash as kind:digits."""
    return hash_of(text.rpartition(":")[2]) == text


def may_agree(one: str, other: str) -> bool:
    """Whether two hashes may be of one content. (Those that are not both a SHA-256 are compared by content.)"""
    return one == other or not one.startswith(SHA256) or not other.startswith(SHA256)


def disagreement(file: Path, stated: str) -> str | None:
    """The hash of a file's content, where it is not the one that is stated."""
    found = None
    for digits in _candidates(file, stated):
        if stated.endswith(f":{digits}"):
            return None
        found = found or hash_of(digits)
    return found


def _candidates(file: Path, stated: str) -> Iterator[str]:
    """What the digits of a hash may be, the likeliest first. A file in Git LFS is named by its pointer's, too."""
    if stated.startswith(SHA256):
        yield sha256(file)
        return
    size = file.stat().st_size
    with open(file, "rb") as stream:
        start = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
        yield hashlib.file_digest(stream, lambda: start).hexdigest()
    with open(file, "rb") as stream:
        yield hashlib.file_digest(stream, lambda: hashlib.sha1(usedforsecurity=False)).hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256(file)}\nsize {size}\n".encode()
    yield hashlib.sha1(f"blob {len(pointer)}\0".encode() + pointer, usedforsecurity=False).hexdigest()
