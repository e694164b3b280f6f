"""Rule predict: a model's answers to the test rows of every task."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import folder, run_job


def main(job: Any) -> None:
    from twin_merging.prediction.predict import load_merged, load_unmerged, predict
    from twin_merging.tasks.families import family_named

    settings = job.params.settings
    family = family_named(settings["family"])
    data = {folder(file).name: folder(file) for file in job.input.data}
    tasks = family.views(family.answers, settings["tasks"], data)
    directory, *others = dict.fromkeys(folder(file) for file in job.input.model)
    if settings["merged"]:
        model = load_merged(directory)
    else:
        experts = {expert.name: expert for expert in others}
        model = load_unmerged(family.name, base=directory, experts=experts, tasks=tasks, body=settings["body"])
    predict(
        model,
        tokenizer=directory,
        data=data,
        tasks=tasks,
        limit=settings["limit"],
        inference=settings["inference"],
        head=settings["head"],
        output=Path(job.output[0]),
    )


run_job(snakemake, main)
