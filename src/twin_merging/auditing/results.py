"""A results folder as an audit sees it: what the provenance of a suite says, and the files as they are now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twin_merging.auditing.provenance import FORMAT
from twin_merging.errors import UserError
from twin_merging.io.files import read_json, sha256

Job = Mapping[str, Any]
PROVENANCE = "provenance.json"
FAILED = "failed"  # the verdict of a check, and of an audit of which one check failed


class Results:
    """The results of one suite. Files are named as the workflow names them, `results/...`, wherever the folder lies."""

    def __init__(self, folder: Path, suite: str) -> None:
        self.folder, self.suite = Path(folder), suite
        file = self.folder / suite / PROVENANCE
        if not file.is_file():
            raise UserError(f"{file}: no such file; make it: snakemake results/{suite}/{PROVENANCE}")
        try:
            self.provenance = read_json(file)
            known = self.provenance["format"] == FORMAT
            self.jobs: dict[str, Job] = {job["name"]: job for job in self.provenance["jobs"]}
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{file}: not a provenance file; remove it and run the audit's workflow again") from None
        if not known:
            raise UserError(
                f"{file}: of format {self.provenance['format']}, not {FORMAT}; audit it with its own version"
            )
        self.makers: dict[str, Job] = {path: job for job in self.jobs.values() for path in job["outputs"]}
        self._hashes: dict[str, str | None] = {}

    @property
    def content(self) -> Mapping[str, Any]:
        """The suite in normal form."""
        return self.provenance["suite"]["content"]

    @property
    def models(self) -> Mapping[str, Mapping[str, str]]:
        return self.provenance["models"]

    def path(self, name: str) -> Path:
        """Where a file of the results lies. Raises UserError for a name that leads out of them."""
        path = Path(name)
        if path.parts[:1] != ("results",) or ".." in path.parts:
            raise UserError(f"{self.of_suite(PROVENANCE)}: '{name}' is no file of the results")
        return self.folder / path.relative_to("results")

    def of_suite(self, *parts: str) -> str:
        """Name of a file of this suite."""
        return "/".join(("results", self.suite, *parts))

    def hash_now(self, name: str) -> str | None:
        """SHA-256 of a file as it is, None where there is none; computed once."""
        if name not in self._hashes:
            path = self.path(name)
            self._hashes[name] = sha256(path) if path.is_file() else None
        return self._hashes[name]

    def is_as_made(self, name: str) -> bool:
        """Whether a file holds what its job wrote."""
        job = self.makers.get(name)
        return job is not None and self.hash_now(name) == job["outputs"][name]["sha256"]

    def of_rule(self, rule: str) -> Iterator[Job]:
        return (job for job in self.jobs.values() if job["rule"] == rule)

    def the_job(self, rule: str) -> Job:
        """The one job of a rule that a suite has one of."""
        for job in self.of_rule(rule):
            return job
        raise UserError(f"{self.of_suite(PROVENANCE)}: no record of rule {rule}; force its job to run again")

    def above(self, names: Iterable[str]) -> dict[str, Job]:
        """Jobs that files rest on, by their names."""
        waiting = list(names)
        found: dict[str, Job] = {}
        while waiting:
            maker = self.makers.get(waiting.pop())
            if maker is not None and maker["name"] not in found:
                found[maker["name"]] = maker
                waiting += maker["inputs"]
        return found


def check_verdict(report: Mapping[str, Any], page: str | Path) -> None:
    """Raise UserError for an audit that failed."""
    if report["verdict"] == FAILED:
        raise UserError(
            f"audit of {report['suite']}: {len(report['failed'])} of {len(report['checks'])} checks failed "
            f"({', '.join(report['failed'])}); see {page}"
        )


def target(job: Job) -> str:
    """A declared output of a job: what to name for Snakemake to make it again."""
    return next(path for paths in job["output"].values() for path in paths)


@dataclass
class Findings:
    """What a check found: failures, a sentence each; jobs to run again; what there is to say when nothing failed."""

    summary: str = ""
    failures: list[str] = field(default_factory=list)
    mend: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    applies: bool = True

    def fail(self, sentence: str, *jobs: Job) -> None:
        self.failures.append(sentence)
        for job in jobs:
            if job["name"] not in self.mend:
                self.mend.append(job["name"])
