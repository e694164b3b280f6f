"""Rule predict: a model's answers to the test rows of every task."""

from pathlib import Path
from typing import Any

from twin_merging.logs import folder, run_job


def main(job: Any) -> None:
    from twin_merging.model.twin import TwinModel
    from twin_merging.prediction import predict, unmerged_model

    settings = job.params.settings
    directory = folder(job.input.model[0])
    if settings["merged"]:
        model = TwinModel.from_pretrained(directory, dtype="float32")
    else:
        results = directory.parent
        experts = {task: results / "experts" / task for task in settings["labels"]}
        model = unmerged_model(directory, experts, settings["labels"], settings["body"])
    predict(
        model,
        directory,
        {folder(file).name: folder(file) for file in job.input.data},
        settings["text"],
        settings["limit"],
        settings["inference"],
        settings["head"],
        Path(job.output[0]),
    )


run_job(snakemake, main)
