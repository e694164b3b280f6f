"""Outputs of a job that are inputs under a second name, and Snakemake's look at their times."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any


def identities(paths: Iterable[str]) -> set[tuple[int, int]]:
    """Which files the paths are names of, of those that are there."""
    found = set()
    for path in paths:
        if os.path.exists(path):
            state = os.stat(path)
            found.add((state.st_dev, state.st_ino))
    return found


def spare_links(dag: Any) -> None:
    """Let Snakemake compare the times of a job's outputs with none of its inputs that is an output too.

    The shards of an assembled model are those of its shared expert under a second name. Snakemake touches the outputs
    of a job one after another, which touches these inputs, and then refuses a job of which an output is older than an
    input: the first shard than the last, where the clock of files has gone on between the two.

    dag: Snakemake's class that looks.
    """
    look = dag.check_output_mtime
    if hasattr(look, "with_links"):  # done before, by another workflow that uses this one
        return

    async def without_links(self: Any, job: Any, expanded_output: list[Any]) -> None:
        await look(self, _WithoutLinks(job, identities(expanded_output)), expanded_output)

    without_links.with_links = look  # type: ignore[attr-defined]
    dag.check_output_mtime = without_links


class _WithoutLinks:
    """A job without the inputs that are these files."""

    def __init__(self, job: Any, files: set[tuple[int, int]]):
        self._job = job
        self.input = [path for path in job.input if not identities([path]) & files]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._job, name)
