"""Rule task_vectors: extracting an expert's task vector."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import folder, run_job


def main(job: Any) -> None:
    from twin_merging.task_vectors.vectors import extract_task_vector

    extract_task_vector(folder(job.input.base[0]), folder(job.input.expert[0]), Path(job.output[0]))


run_job(snakemake, main)
