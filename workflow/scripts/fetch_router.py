"""Rule fetch_router: fetching a router that was trained elsewhere."""

from typing import Any

from twin_merging.jobs.run import folder, run_job


def main(job: Any) -> None:
    from twin_merging.fetching.router import fetch_router
    from twin_merging.suite.locks import locked_files

    hub = job.params.settings["hub"]
    fetch_router(
        hub, folder(job.output.weights), locked_files(job.input.locks, job.wildcards.suite, "router", {"hub": hub})
    )


run_job(snakemake, main)
