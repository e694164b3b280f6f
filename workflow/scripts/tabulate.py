"""Rule tabulate: the suite's tables."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import run_job


def main(job: Any) -> None:
    from twin_merging.reporting.tables import write_tables

    settings = job.params.settings
    write_tables(
        title=settings["title"],
        scores=Path(job.input.scores),
        tasks=settings["tasks"],
        knowledge=settings["knowledge"],
        predictions=dict(zip(settings["dynamic"], map(Path, job.input.predictions), strict=True)),
        router_metrics=dict(zip(settings["dynamic"], map(Path, job.input.router_metrics), strict=True)),
        choices=[Path(file) for file in job.input.choices],
        outputs={name: Path(path) for name, path in job.output.items() if name != "record"},
    )


run_job(snakemake, main)
