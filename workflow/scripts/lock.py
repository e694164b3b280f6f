"""Rule lock: tying every Hub source of suites to a commit and to hashes."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import run_job


def main(job: Any) -> None:
    from twin_merging.jobs.progress import report
    from twin_merging.suite.locking import lock_suite
    from twin_merging.suite.suite import load_suite

    for file in job.params.settings["suites"]:
        for line in lock_suite(load_suite(Path(file))):
            report(line)


run_job(snakemake, main)
