"""Rule cost: what each model takes to store, to make and to ask."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import run_job


def main(job: Any) -> None:
    from twin_merging.reporting.cost import write_cost

    settings = job.params.settings
    write_cost(
        title=settings["title"],
        storage=Path(job.input.storage),
        scores=Path(job.input.scores),
        models=settings["models"],
        records=list(job.input.records),
        outputs={name: Path(path) for name, path in job.output.items() if name != "record"},
    )


run_job(snakemake, main)
