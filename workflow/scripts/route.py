"""Rule route: making the router."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import run_job


def main(job: Any) -> None:
    from twin_merging.routing.training import make_router

    settings = job.params.settings
    make_router(
        features=Path(job.input.features),
        tasks=settings["tasks"],
        settings=settings["router"],
        seed=settings["seed"],
        output=Path(job.output.router),
        metrics=Path(job.output.metrics),
        task_vectors=dict(zip(settings["tasks"], map(Path, job.input.task_vectors), strict=True))
        if job.input.task_vectors
        else None,
        fetched=Path(job.input.fetched[0]) if job.input.fetched else None,
    )


run_job(snakemake, main)
