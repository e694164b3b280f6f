"""Rule training_statistics: what a merging method needs of an expert's training rows."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import folder, run_job


def main(job: Any) -> None:
    from twin_merging.task_vectors.statistics import gather_statistics

    settings = job.params.settings
    gather_statistics(
        settings["kind"],
        folder(job.input.base[0]),
        folder(job.input.expert[0]),
        Path(job.input.data),
        settings["labels"],
        settings["text"],
        settings["rows"],
        settings["max_length"],
        Path(job.output[0]),
    )


run_job(snakemake, main)
