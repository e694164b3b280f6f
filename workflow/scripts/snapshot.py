"""Rule snapshot: keeping the run that the scores belong to."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import run_job


def main(job: Any) -> None:
    from twin_merging.reporting.runs.snapshot import write_snapshot

    write_snapshot(
        suite=job.wildcards.suite,
        settings=job.params.settings,
        records=job.input.records,
        sources=job.input.sources,
        scores=Path(job.input.scores),
        intervals=Path(job.input.intervals),
        predictions={Path(file).stem: Path(file) for file in job.input.predictions},
        folder=Path(job.params.runs),
        newest=Path(job.output.newest),
        changes=Path(job.output.changes),
    )


run_job(snakemake, main)
