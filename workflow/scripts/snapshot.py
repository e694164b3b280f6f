"""Rule snapshot: keeping the run that the scores belong to."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import run_job


def main(job: Any) -> None:
    from twin_merging.reporting.runs.snapshot import snapshot, write_snapshot

    run = snapshot(
        suite=job.wildcards.suite,
        settings=job.params.settings,
        records=job.input.records,
        sources=job.input.sources,
        scores=Path(job.input.scores),
        intervals=Path(job.input.intervals),
        predictions={Path(file).stem: Path(file) for file in job.input.predictions},
    )
    newest, changes = Path(job.output.newest), Path(job.output.changes)
    write_snapshot(run, folder=Path(job.params.runs), newest=newest, changes=changes)


run_job(snakemake, main)
