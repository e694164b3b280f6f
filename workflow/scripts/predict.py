"""Rules predict and predict_shard: a model's answers to the test rows of every task, of all batches or of a shard."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import folder, run_job


def main(job: Any) -> None:
    from twin_merging.jobs.digest import settings_digest
    from twin_merging.prediction.parts import Parts
    from twin_merging.prediction.predict import gather, load_merged, load_unmerged, predict
    from twin_merging.prediction.shards import Shard, read_shards
    from twin_merging.tasks.families import family_named

    settings = job.params.settings
    family = family_named(settings["family"])
    data = {folder(file).name: folder(file) for file in job.input.data}
    tasks = family.views(family.answers, settings["tasks"], data)
    directory, *others = dict.fromkeys(folder(file) for file in job.input.model)
    key = {**settings, "code": job.params.code}
    parts = Parts(Path(job.params.parts), lambda: settings_digest(key, [*job.input.model, *job.input.data]))
    rows = {"data": data, "tasks": tasks, "limit": settings["limit"], "sample": settings.get("sample")}
    written = {"output": Path(job.output[0]), "columns": family.columns}
    if shards := job.input.get("shards"):
        gathered = read_shards(map(Path, shards))
        if gathered.is_whole:
            gather(gathered, **rows, **written)
            parts.remove()
            return
        parts.batches.update(gathered.stored)  # a store had the prediction when the shards began, and has it no more
    if settings["merged"]:
        model = load_merged(directory, settings["dtype"])
    else:
        experts = {expert.name: expert for expert in others}
        model = load_unmerged(family.name, directory, experts, tasks, settings["body"], settings["dtype"])
    predict(
        model,
        tokenizer=directory,
        inference=settings["inference"],
        head=settings["head"],
        parts=parts,
        shard=Shard(int(number), int(job.wildcards.shards)) if (number := job.wildcards.get("shard")) else None,
        **rows,
        **written,
    )


run_job(snakemake, main)
