"""Rule answer_validation: an expert's score on the validation rows of its own task."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import folder, run_job


def main(job: Any) -> None:
    from twin_merging.choosing.validation import ValidationRows, write_expert_score
    from twin_merging.prediction.predict import load_unmerged
    from twin_merging.tasks.families import family_named

    settings, task = job.params.settings, job.wildcards.task
    family = family_named(settings["family"])
    base = folder(job.input.base[0])
    rows = ValidationRows(
        data={task: folder(job.input.data[0])},
        views=family.views(family.answers, {task: settings["task"]}, {task: folder(job.input.data[0])}),
        metrics={task: settings["metric"]},
        limit=settings["limit"],
        inference=settings["inference"],
    )
    experts = {task: folder(job.input.expert[0])}
    model = load_unmerged(family.name, base, experts, rows.views, body=task, dtype=settings["dtype"])
    write_expert_score(task, rows, model, base, Path(job.output[0]))


run_job(snakemake, main)
