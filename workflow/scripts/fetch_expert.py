"""Rule fetch_expert: fetching an expert that is a whole checkpoint."""

from typing import Any

from twin_merging.logs import folder, run_job


def main(job: Any) -> None:
    from twin_merging.fetching.models import fetch_expert

    settings = job.params.settings
    base, output = folder(job.input.base[0]), folder(job.output.config)
    fetch_expert(settings["source"], settings["labels"], base, output, settings["pinned"])


run_job(snakemake, main)
