"""Rule finetune: fine-tuning an expert from the base."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import folder, run_job


def main(job: Any) -> None:
    from twin_merging.checkpoints.label_names import LABEL_NAMES, read_names
    from twin_merging.finetuning.finetune import finetune
    from twin_merging.io.sharding import Shards
    from twin_merging.io.validation import validate
    from twin_merging.jobs.digest import settings_digest
    from twin_merging.tasks.families import family_named, training_named

    settings = dict(job.params.settings)
    inputs = [*job.input.base, *job.input.data]
    output = folder(job.output.config)
    finetune(
        base=folder(job.input.base[0]),
        data=folder(job.input.data[0]),
        task=validate(family_named(settings["family"]).task, settings["task"]),
        training=training_named(settings["family"]),
        settings=settings["finetune"],
        limits=settings["limits"],
        seed=settings["seed"],
        checkpoints=Path(f"{job.params.checkpoints}-{settings_digest(settings, inputs)}"),
        output=output,
        label_names=read_names(file for file in job.input.data if Path(file).name == LABEL_NAMES),
        dtype=settings.get("dtype", "float32"),
        shards=Shards.of_settings(settings),
    )


run_job(snakemake, main)
