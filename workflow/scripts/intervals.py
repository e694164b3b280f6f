"""Rule intervals: intervals of scores, averages and differences."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import run_job


def main(job: Any) -> None:
    from twin_merging.reporting.intervals import Rows, write_intervals

    settings = job.params.settings
    write_intervals(
        Path(job.input.scores),
        dict(zip(settings["models"], map(Path, job.input.predictions), strict=True)),
        settings["metrics"],
        Rows(settings["static"], settings["competing"]),
        Path(job.output[0]),
        settings.get("subsets") or {},
    )


run_job(snakemake, main)
