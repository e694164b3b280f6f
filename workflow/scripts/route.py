"""Rule route: making the router."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import run_job


def main(job: Any) -> None:
    from twin_merging.routing.training import make_router

    settings = job.params.settings
    make_router(
        Path(job.input.features),
        settings["tasks"],
        settings["router"],
        settings["seed"],
        Path(job.output.router),
        Path(job.output.metrics),
        dict(zip(settings["tasks"], map(Path, job.input.exclusives), strict=True)) if job.input.exclusives else None,
        Path(job.input.fetched[0]) if job.input.fetched else None,
    )


run_job(snakemake, main)
