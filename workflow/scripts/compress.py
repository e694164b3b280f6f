"""Rule compress: compressing a task's exclusive knowledge."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import folder, run_job


def main(job: Any) -> None:
    from twin_merging.checkpoints.groups import Protocol
    from twin_merging.compression.compress import compress
    from twin_merging.io.files import read_json

    settings, choice = job.params.settings, job.input.choice
    files = [Path(file) for file in job.input.task_vectors]
    compress(
        task=job.wildcards.task,
        base=folder(job.input.base[0]),
        task_vectors={file.stem: file for file in files},
        shared=folder(job.input.shared[0]),
        sizes=settings["sizes"],
        protocol=Protocol("", settings["groups"]),
        output=Path(job.output[0]),
        coefficients=read_json(Path(choice[0]))["coefficients"] if choice else settings["coefficients"],
    )


run_job(snakemake, main)
