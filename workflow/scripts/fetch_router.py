"""Rule fetch_router: fetching a router that was trained elsewhere."""

from typing import Any

from twin_merging.logs import folder, run_job


def main(job: Any) -> None:
    from twin_merging.fetching.router import fetch_router

    settings = job.params.settings
    fetch_router(settings["hub"], folder(job.output.weights), settings["pinned"])


run_job(snakemake, main)
