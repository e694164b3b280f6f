"""Rule training_statistics: what a merging method needs of an expert's training rows."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import folder, run_job


def main(job: Any) -> None:
    from twin_merging.io.validation import validate
    from twin_merging.task_vectors.statistics import gather_statistics
    from twin_merging.tasks.families import family_named

    settings = job.params.settings
    gather_statistics(
        settings["kind"],
        base=folder(job.input.base[0]),
        expert=folder(job.input.expert[0]),
        data=Path(job.input.data),
        task=validate(family_named(settings["family"]).answers, settings["task"]),
        rows=settings["rows"],
        max_length=settings["max_length"],
        output=Path(job.output[0]),
    )


run_job(snakemake, main)
