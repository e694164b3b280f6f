"""What was found of source files, kept from one Snakemake call to the next beside Python's own compiled files.

To parse the library's files takes most of a second, and every call needs their digests. A file is known by the SHA-256
of its content, so what is kept of it is never of another. Where the folder cannot be written, everything is found anew.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from twin_merging.errors import UserError
from twin_merging.io.files import whole_file

FILE = Path(__file__).parent / "__pycache__" / "code.json"
MOST = 4096  # files of which something is kept; beyond it, only those of the last call

Found = tuple[str, tuple[str, ...]]  # the digest of a file, and the dotted names that it imports


class KeptCode:
    """rule: a digest of the code that finds it; what another rule or version of Python found is not taken."""

    def __init__(self, rule: str, file: Path = FILE):
        self._rule, self._file = f"{rule} {sys.version}", file
        self._known: dict[str, list[Any]] | None = None
        self._used: dict[str, list[Any]] = {}
        self._is_new = False

    def get(self, key: str) -> Found | None:
        if self._known is None:
            self._known = self._read()
        found = self._known.get(key)
        if found is None:
            return None
        self._used[key] = found
        return found[0], tuple(found[1])

    def put(self, key: str, found: Found) -> None:
        """Keep something; it is written when this process ends."""
        if not self._is_new and not sys.dont_write_bytecode:
            self._is_new = True
            atexit.register(self.write)
        self._used[key] = [found[0], list(found[1])]

    def write(self) -> None:
        """Write what is kept, with what other processes have written since."""
        known = {**self._read(), **self._used}
        content = {"rule": self._rule, "files": known if len(known) <= MOST else self._used}
        with suppress(OSError, UserError), whole_file(self._file) as partial:
            partial.write_text(json.dumps(content), encoding="utf-8")

    def _read(self) -> dict[str, list[Any]]:
        """What is kept; nothing where there is no file, or one that is damaged or of another rule."""
        try:
            content = json.loads(self._file.read_bytes())
            if content["rule"] != self._rule:
                return {}
            files = content["files"].items()
            return {key: [str(digest), [str(name) for name in names]] for key, (digest, names) in files}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}


def key_of(parts: list[bytes]) -> str:
    """A name for the content of a file and what lies beside it."""
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8, "little"))
        found.update(part)
    return found.hexdigest()
