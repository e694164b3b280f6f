"""Rule pin: the hashes that a suite's Hub sources are locked to."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import run_job


def main(job: Any) -> None:
    from twin_merging.suite.locks import copy_lock

    copy_lock(job.input.lock, Path(job.output[0]))


run_job(snakemake, main)
