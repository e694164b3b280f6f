"""Rule route_features: a shared expert's features, or the base's, of train and validation rows."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import folder, run_job


def main(job: Any) -> None:
    from twin_merging.routing.features import extract_features
    from twin_merging.tasks.families import family_named

    settings = job.params.settings
    family = family_named(settings["family"])
    data = {folder(file).name: folder(file) for file in job.input.data}
    extract_features(
        shared=folder(job.input.shared[0]),
        data=data,
        tasks=family.views(family.inputs, settings["tasks"], data),
        limits=settings["limits"],
        inference=settings["inference"],
        features=settings["features"],
        dtype=settings["dtype"],
        texts=dict(zip(settings.get("texts", ()), map(Path, job.input.texts), strict=True)),
        output=Path(job.output[0]),
    )


run_job(snakemake, main)
