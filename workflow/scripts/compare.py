"""Rule compare: the suite's scores beside published ones."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import run_job


def main(job: Any) -> None:
    from twin_merging.reporting.comparison import compare

    settings = job.params.settings
    compare(
        title=settings["title"],
        tasks=settings["tasks"],
        subsets=settings.get("subsets"),
        scores=Path(job.input.scores),
        published=Path(job.input.published),
        outputs={name: Path(path) for name, path in job.output.items() if name != "record"},
    )


run_job(snakemake, main)
