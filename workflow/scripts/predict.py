"""Rule predict: a model's answers to the test rows of every task."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import folder, run_job


def main(job: Any) -> None:
    from twin_merging.prediction.predict import load_evaluated, predict

    settings = job.params.settings
    directory = folder(job.input.model[0])
    predict(
        load_evaluated(directory, settings["labels"], settings["merged"], settings["body"]),
        directory,
        {folder(file).name: folder(file) for file in job.input.data},
        settings["text"],
        settings["limit"],
        settings["inference"],
        settings["head"],
        Path(job.output[0]),
    )


run_job(snakemake, main)
