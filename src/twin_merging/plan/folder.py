"""The folder that holds the suites: each file is read once, whatever is asked of it."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from pathlib import Path

from twin_merging.errors import UserError
from twin_merging.plan.lm_eval import task_files
from twin_merging.suite.locks import hub_sources
from twin_merging.suite.suite import Suite, load_suite


class Suites:
    """The suites in a folder. `glue` is a local folder that stands in for the Hub's GLUE."""

    def __init__(self, folder: str, glue: str | None = None):
        self.folder, self.glue = folder, glue
        self._read = cache(self._suite_or_fault)

    def named(self, name: str) -> Suite:
        """The suite of that name. Raises UserError when its file is missing or wrong."""
        found = self._read(Path(self.folder, f"{name}.yaml"))
        if isinstance(found, UserError):
            raise found
        return found

    def readable(self) -> list[Suite]:
        """Every suite that can be read, by name. What is wrong with another is said when it is asked for."""
        return [found for found in map(self._read, self._files()) if isinstance(found, Suite)]

    def to_lock(self, chosen: str | None) -> list[Suite]:
        """The suites that have Hub sources, or the one that is chosen. Raises UserError where there are none."""
        names = [chosen] if chosen else [file.stem for file in self._files()]
        found = [suite for suite in map(self.named, names) if any(hub_sources(suite.content))]
        if not found:
            raise UserError(f"{self.folder}: no suite {chosen or ''} with a Hub source to lock; name one: lock=SUITE")
        return found

    def with_suites(self) -> list[str]:
        """Files that a job needs to know a suite: the suites, their locks, and what they name beside their sources."""
        beside = [file for suite in self.readable() for file in _named_by(suite)]
        return [*map(str, self._files()), *map(str, sorted(Path(self.folder).glob("*.lock.json"))), *beside]

    def _files(self) -> list[Path]:
        return sorted(Path(self.folder).glob("*.yaml"))

    def _suite_or_fault(self, file: Path) -> Suite | UserError:
        try:
            return load_suite(file, self.glue)
        except UserError as error:
            return error


def _named_by(suite: Suite) -> list[str]:
    """Published scores and task files of lm-eval that a suite names; of those that are missing its own jobs tell."""
    files = [suite.says.published] if suite.says.published and Path(suite.says.published).is_file() else []
    with suppress(UserError):
        files += task_files(suite)
    return files
