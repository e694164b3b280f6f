"""Rule score: scoring every model's predictions."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import run_job


def main(job: Any) -> None:
    from twin_merging.scoring.score import score_predictions

    settings = job.params.settings
    predictions = {Path(file).stem: Path(file) for file in job.input.predictions}
    score_predictions(
        predictions, settings["metrics"], settings["protocols"], Path(job.output[0]), settings.get("evaluated")
    )


run_job(snakemake, main)
