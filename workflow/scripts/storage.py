"""Rule storage: what lies on disk of each model."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import folder, run_job


def main(job: Any) -> None:
    from twin_merging.reporting.storage import write_storage

    settings = job.params.settings
    experts = {Path(file).parent.name: Path(file).parent for file in job.input.experts}
    merged = [Path(file).parent for file in job.input.models if Path(file).name == "merge.json"]
    write_storage(
        folder(job.input.base[0]),
        {task: experts[task] for task in settings["tasks"]},
        settings["adapters"],
        dict(zip(settings["models"], merged, strict=True)),
        settings["models"],
        Path(job.output[0]),
    )


run_job(snakemake, main)
