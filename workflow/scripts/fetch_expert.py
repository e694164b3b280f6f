"""Rule fetch_expert: fetching an expert that is a whole checkpoint."""

from typing import Any

from twin_merging.jobs.run import folder, run_job


def main(job: Any) -> None:
    from twin_merging.fetching.models import fetch_expert
    from twin_merging.suite.locks import locked_files

    settings = job.params.settings
    base, output = folder(job.input.base[0]), folder(job.output.config)
    pinned = locked_files(job.input.locked, "expert", settings["source"])
    fetch_expert(settings["source"], settings["labels"], base, output, pinned)


run_job(snakemake, main)
