"""Rule crate: a suite's results as a Workflow Run RO-Crate."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import folder, run_job


def main(job: Any) -> None:
    from twin_merging.auditing.crate import write_crate
    from twin_merging.auditing.results import Results

    settings = job.params.settings
    results = Results(folder(job.input.provenance).parent, job.wildcards.suite)
    write_crate(results, Path(settings["workflow"]), Path(settings["suite"]), Path(job.output[0]))


run_job(snakemake, main)
