"""Rule predict: a model's answers to the test rows of every task."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import folder, run_job


def main(job: Any) -> None:
    from twin_merging.jobs.digest import settings_digest
    from twin_merging.prediction.parts import Parts
    from twin_merging.prediction.predict import load_merged, load_unmerged, predict
    from twin_merging.tasks.families import family_named

    settings = job.params.settings
    family = family_named(settings["family"])
    data = {folder(file).name: folder(file) for file in job.input.data}
    tasks = family.views(family.answers, settings["tasks"], data)
    directory, *others = dict.fromkeys(folder(file) for file in job.input.model)
    key = {**settings, "code": job.params.code}
    parts = Parts(Path(job.params.parts), lambda: settings_digest(key, [*job.input.model, *job.input.data]))
    if settings["merged"]:
        model = load_merged(directory, settings["dtype"])
    else:
        experts = {expert.name: expert for expert in others}
        model = load_unmerged(family.name, directory, experts, tasks, settings["body"], settings["dtype"])
    predict(
        model,
        tokenizer=directory,
        data=data,
        tasks=tasks,
        limit=settings["limit"],
        sample=settings.get("sample"),
        inference=settings["inference"],
        head=settings["head"],
        output=Path(job.output[0]),
        columns=family.columns,
        parts=parts,
    )


run_job(snakemake, main)
