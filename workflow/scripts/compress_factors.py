"""Rule compress_factors: compressing a task's exclusive knowledge in factor space."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import run_job


def main(job: Any) -> None:
    from twin_merging.compression.compress_factors import compress_factors
    from twin_merging.task_vectors.vectors import TaskVector

    compress_factors(
        TaskVector(Path(job.input.task_vectors[0])),
        shared=Path(job.input.factors),
        sizes=job.params.settings["sizes"],
        output=Path(job.output[0]),
    )


run_job(snakemake, main)
