"""Rule tabulate: the suite's tables."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import run_job


def main(job: Any) -> None:
    from twin_merging.reporting.tables import write_tables

    settings = job.params.settings
    write_tables(
        title=settings["title"],
        suite=job.wildcards.suite,
        scores=Path(job.input.scores),
        intervals=Path(job.input.intervals),
        tasks=settings["tasks"],
        knowledge=settings["knowledge"],
        protocols=settings["protocols"],
        told_more=settings["told_more"],
        predictions=dict(zip(settings["dynamic"], map(Path, job.input.predictions), strict=True)),
        router_metrics=dict(zip(settings["dynamic"], map(Path, job.input.router_metrics), strict=True)),
        choices=[Path(file) for file in job.input.choices],
        subsets=settings.get("subsets"),
        outputs={name: Path(path) for name, path in job.output.items() if name != "record"},
    )


run_job(snakemake, main)
