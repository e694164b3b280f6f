"""Rule compress: compressing a task's exclusive knowledge."""

from pathlib import Path
from typing import Any

from twin_merging.logs import folder, run_job


def main(job: Any) -> None:
    from twin_merging.compression import compress
    from twin_merging.parameters import Protocol

    settings = job.params.settings
    compress(
        base=folder(job.input.base[0]),
        task_vector=Path(job.input.task_vector),
        shared=folder(job.input.shared),
        sizes=settings["sizes"],
        protocol=Protocol("", settings["groups"]),
        output=Path(job.output[0]),
    )


run_job(snakemake, main)
