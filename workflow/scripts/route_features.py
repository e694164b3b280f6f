"""Rule route_features: the shared expert's features of train and validation rows."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import folder, run_job


def main(job: Any) -> None:
    from twin_merging.routing.features import extract_features

    settings = job.params.settings
    extract_features(
        shared=folder(job.input.shared[0]),
        data={folder(file).name: folder(file) for file in job.input.data},
        text=settings["text"],
        limits=settings["limits"],
        inference=settings["inference"],
        features=settings["features"],
        output=Path(job.output[0]),
    )


run_job(snakemake, main)
