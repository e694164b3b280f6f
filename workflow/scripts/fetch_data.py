"""Rule fetch_data: fetching a task's rows."""

from typing import Any

from twin_merging.jobs.run import folder, run_job


def main(job: Any) -> None:
    from twin_merging.fetching.data import fetch_data
    from twin_merging.io.validation import validate
    from twin_merging.suite.locks import locked_files
    from twin_merging.tasks.families import family_named

    settings = job.params.settings
    source, family = settings["data"], family_named(settings["family"])
    fetch_data(
        source,
        task=validate(family.rows, settings["task"]),
        output=folder(job.output.train),
        pinned=locked_files(job.input.locks, job.wildcards.suite, "data", source),
    )


run_job(snakemake, main)
