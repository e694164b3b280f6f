"""Rule provenance: who made what from what, of all that a suite's tables rest on."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import run_job


def main(job: Any) -> None:
    from twin_merging.auditing.provenance import write_provenance

    write_provenance(job.params.settings, job.input.records, Path(job.output[0]))


run_job(snakemake, main)
