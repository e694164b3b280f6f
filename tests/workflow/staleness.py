"""What a change makes stale: the table's rows, and what Snakemake plans. docs/reproducibility.md says it in words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.workflow.changes import Change
from tests.workflow.conftest import targets
from tests.workflow.running import jobs_of, snakemake

Jobs = set[tuple[str, str]]  # rules and names

MINE, MADE, OTHER, CONFIG = (
    f"config/{file}.yaml" for file in ("suites/mine", "suites/made", "suites/minilm", "config")
)
LIBRARY, RESULTS = "src/twin_merging", "results/mine"
WEIGHTS = f"{RESULTS}/models/dare-ties/model.safetensors"

DARE = "merge(dare-ties) predict(dare-ties) ..."
TWINS = "assemble(*) predict(twin twin-onepass twin-strict) ..."
COMPRESSED = f"compress(*) {TWINS}"
TUNED = "task_vectors({0}) merge(*) compress(*) route_features(*) route(*) assemble(*) predict(*) ..."
SECTION = "router: {shared: task-arithmetic, epochs: 3, batch_size: 16}"


@dataclass(frozen=True)
class Row:
    """A change, and the jobs that it makes stale: `rule(names)` each, where a job's name is its wildcards but for the
    suite, `*` every job of the rule, and `...` score, cards and tables. `arguments`: more of them for the call."""

    name: str
    change: Change
    stale: str
    suite: str = "mine"
    arguments: tuple[str, ...] = ()

    @property
    def options(self) -> list[str]:
        return [argument for argument in self.arguments if argument not in self.files]

    @property
    def files(self) -> list[str]:
        """Files that are asked for beside the suite's."""
        return [argument for argument in self.arguments if argument.startswith("results/")]


def planned(folder: Path, *suites: str, options: list[str] | None = None, files: list[str] | None = None) -> Jobs:
    """The jobs that a dry run of suites plans."""
    run = snakemake(folder, "-n", *(options or []), "--", *targets(*suites), *(files or []))
    assert run.returncode == 0, run.stderr
    jobs = jobs_of(run)
    assert bool(jobs) != ("Nothing to be done" in run.stdout + run.stderr)
    return jobs


def every_job_of(folder: Path) -> dict[str, Jobs]:
    """Every job of both suites, by suite."""
    run = snakemake(folder, "-n", "--forceall", "--", *targets("mine", "made"))
    assert run.returncode == 0, run.stderr
    return {suite: jobs_of(run, suite) for suite in ("mine", "made")}


def expected(stale: str, every: Jobs) -> Jobs:
    """The jobs that a row says, of every job of its suite."""
    if stale == "*":
        return every
    jobs: Jobs = set()
    after = "score() intervals() snapshot() card(*) tabulate()"
    for rule, names in re.findall(r"(\w+)\((.*?)\)", stale.replace("...", after)):
        jobs |= {job for job in every if job[0] == rule} if names == "*" else {(rule, n) for n in names.split() or [""]}
    return jobs
