"""Rule fetch_base: fetching a base from the Hub, a folder or a package."""

from typing import Any

from twin_merging.logs import folder, run_job


def main(job: Any) -> None:
    from twin_merging.fetching.models import fetch_base

    settings = job.params.settings
    fetch_base(settings["source"], folder(job.output.config), settings["pinned"])


run_job(snakemake, main)
