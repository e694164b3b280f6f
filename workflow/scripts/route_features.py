"""Rule route_features: the shared expert's features of train and validation rows."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import folder, run_job


def main(job: Any) -> None:
    from twin_merging.routing.features import extract_features

    settings = job.params.settings
    extract_features(
        folder(job.input.shared[0]),
        {folder(file).name: folder(file) for file in job.input.data},
        settings["text"],
        settings["limits"],
        settings["inference"],
        settings["features"],
        Path(job.output[0]),
    )


run_job(snakemake, main)
