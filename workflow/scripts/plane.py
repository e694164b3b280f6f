"""Rule plane: scores on two tasks for a shared expert plus weighed exclusive vectors of the two."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import folder, run_job


def main(job: Any) -> None:
    from twin_merging.prediction.plane import score_plane
    from twin_merging.prediction.predict import load_merged
    from twin_merging.tasks.families import family_named

    settings = job.params.settings
    family = family_named(settings["family"])
    data = {folder(file).name: folder(file) for file in job.input.data}
    directory = folder(job.input.model[0])
    score_plane(
        load_merged(directory, settings["dtype"]),
        tokenizer=directory,
        data=data,
        tasks=family.views(family.answers, settings["tasks"], data),
        pair=settings["pair"],
        grid=settings["grid"],
        limit=settings["rows"],
        inference=settings["inference"],
        metrics=settings["metrics"],
        output=Path(job.output[0]),
    )


run_job(snakemake, main)
