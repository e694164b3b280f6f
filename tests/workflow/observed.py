"""What jobs opened, against what their rules declare. tests/observer/sitecustomize.py does the observing."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from tests.workflow.running import REPOSITORY
from twin_merging.io.files import read_json

OBSERVER = REPOSITORY / "tests" / "observer"
# Where a job may open nothing that its rule does not declare. Elsewhere lie Python, its packages and temporary files.
PLACES = ("results", "config", "inputs", "suites")
CALL = re.compile(r"^(\w+)\((.*)\)\s+= (-?\d+)")
PATH = re.compile(r'(?:(?:AT_FDCWD|\d+)<([^>]*)>, )?"((?:[^"\\]|\\.)*)"')


class Call(NamedTuple):
    """A file that a job opened or changed, or a folder that it listed (`is_listed`). becomes: the file's new name,
    where the job gave it one."""

    path: str
    is_listed: bool = False
    becomes: str | None = None


@dataclass(frozen=True)
class Observation:
    """A job, what its rule declares, and its calls."""

    job: str
    declared: frozenset[str]
    kept: str | None
    calls: tuple[Call, ...]

    def undeclared(self) -> list[str]:
        """Files that the rule does not declare, and, with a slash, listed folders that hold no declared file."""
        known = {call.path for call in self.calls if call.becomes is not None and self._is_declared(call.becomes)}
        calls = [call for call in self.calls if call.path.split("/")[0] in PLACES and call.path not in known]
        files = {call.path for call in calls if not call.is_listed and not self._is_declared(call.path)}
        folders = {call.path for call in calls if call.is_listed and not self._is_known_folder(call.path)}
        return sorted({*files, *(f"{path}/" for path in folders)})

    def _is_declared(self, path: str) -> bool:
        """Whether a file is declared, lies in a declared folder, is what an output is written to before it is whole, or
        is kept by a fine-tuning that goes on, or while candidates are tried."""
        parts = re.sub(r"(^|/)\.([^/]+)\.[0-9a-f]{8}-\d+-\d+-\d+\.partial(?=/|$)", r"\1\2", path).split("/")
        above = {"/".join(parts[:count]) for count in range(1, len(parts) + 1)}
        kept = self.kept is not None and (path.startswith(f"{self.kept}-") or self.kept in above)
        return kept or bool(above & self.declared)

    def _is_known_folder(self, path: str) -> bool:
        """Whether a folder is declared, or a declared file's: libraries list the folder that they load from."""
        return self._is_declared(path) or path in {os.path.dirname(file) for file in self.declared}


@cache
def strace_works() -> bool:
    try:
        return subprocess.run(["strace", "-f", "--seccomp-bpf", "-o", os.devnull, "true"], check=False).returncode == 0
    except OSError:
        return False


def observing(folder: Path, observer: str, more: Path) -> dict[str, str]:
    """Environment variables by which every job is observed. `more`: a folder of PYTHONPATH that the run has itself."""
    folder.mkdir(parents=True, exist_ok=True)
    return {"OBSERVED": str(folder), "OBSERVER": observer, "PYTHONPATH": f"{OBSERVER}{os.pathsep}{more}"}


def observations(folder: Path) -> list[Observation]:
    found = []
    for file in sorted(folder.glob("*.json")):
        content = read_json(file)
        place, traced = Path(content["folder"]), file.with_suffix(".strace")
        text = traced.read_text(errors="replace") if traced.is_file() else None
        calls = _calls_of_system(text) if text is not None else _calls_of_python(place, content["seen"])
        relative = (
            Call(_relative(place, c.path), c.is_listed, c.becomes and _relative(place, c.becomes)) for c in calls
        )
        found.append(Observation(
            job=" ".join([content["rule"], *content["wildcards"].values()]),
            declared=frozenset(_relative(place, path) for path in content["declared"]),
            kept=content["kept"],
            calls=tuple(dict.fromkeys(relative)),
        ))  # fmt: skip
    return found


def _relative(folder: Path, path: str) -> str:
    whole = os.path.normpath(folder / path)
    return os.path.relpath(whole, folder) if whole.startswith(f"{folder}/") else whole


def _calls_of_python(folder: Path, seen: list[list[Any]]) -> list[Call]:
    """Of what Python tried: calls on files that are there now, as a rename's source is not."""
    return [Call(path, listed) for path, listed in seen if (folder / path).exists()]


def _calls_of_system(text: str) -> Iterator[Call]:
    """The calls in strace's words that succeeded."""
    begun: dict[str, str] = {}
    for line in text.splitlines():
        process, _, call = line.partition(" ")
        call = call.strip()
        if call.endswith("<unfinished ...>"):
            begun[process] = call.removesuffix("<unfinished ...>")
            continue
        if call.startswith("<... "):
            call = begun.pop(process, "") + call.partition(" resumed>")[2]
        if (match := CALL.match(call)) and int(match[3]) >= 0:
            first, *more = [os.path.join(place, path) for place, path in PATH.findall(match[2])]
            yield Call(first, "O_DIRECTORY" in match[2], more[0] if match[1].startswith("rename") else None)
            yield from map(Call, more)
