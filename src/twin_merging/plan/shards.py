"""Predictions that several jobs share out: how many, and that Snakemake takes their files for nothing that counts."""

from __future__ import annotations

import re
from typing import Any

from twin_merging.plan.inputs.files import Wildcards
from twin_merging.suite.suite import Suite

# The files of a shard, wherever they lie: what it answered, and its record.
_FILE = re.compile(r"(?:predictions/[^/]+/shard-|records/predict_shard/[^/]+/)\d+-of-\d+\.json$")


def count(suite: Suite, asked: int | None) -> int:
    """How many jobs answer a model's test rows. asked: what the configuration says, which knows the machines; where it
    says nothing, the suite does."""
    return asked or suite.says.shards or 1


def answers(suite: Suite, wildcards: Wildcards, asked: int | None) -> list[str]:
    """What the shards of a model have answered; nothing where one job answers all rows."""
    return [f"results/{suite.name}/predictions/{wildcards['model']}/shard-{one}.json" for one in _names(suite, asked)]


def records(suite: Suite, wildcards: Wildcards, asked: int | None) -> list[str]:
    """The records of these jobs."""
    folder = f"results/{suite.name}/records/predict_shard/{wildcards['model']}"
    return [f"{folder}/{one}.json" for one in _names(suite, asked)]


def _names(suite: Suite, asked: int | None) -> list[str]:
    shards = count(suite, asked)
    return [f"{number}-of-{shards}" for number in range(1, shards + 1)] if shards > 1 else []


def forget_shards(persistence: Any) -> None:
    """Let Snakemake keep no files of shards among the inputs that it remembers of a job. It would run a job again whose
    inputs are others than before, and how many jobs share out the rows changes nothing that they make.

    persistence: Snakemake's class that remembers.
    """
    remembered = persistence._input
    if not hasattr(remembered, "with_shards"):  # done before, by another workflow that uses this one

        def without_shards(self: Any, job: Any) -> list[str]:
            return [path for path in remembered(self, job) if not _FILE.search(path)]

        without_shards.with_shards = remembered  # type: ignore[attr-defined]
        persistence._input = without_shards
