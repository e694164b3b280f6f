"""Rule fetch_data: fetching a task's rows."""

from typing import Any

from twin_merging.jobs.run import folder, run_job


def main(job: Any) -> None:
    from twin_merging.fetching.data import fetch_data
    from twin_merging.suite.locks import locked_files

    settings = job.params.settings
    fetch_data(
        settings["data"], settings, folder(job.output.train), locked_files(job.input.locked, "data", settings["data"])
    )


run_job(snakemake, main)
