"""Rule merge_factors: the factors that a shared expert in factor space is made of."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import folder, run_job


def main(job: Any) -> None:
    from twin_merging.checkpoints.groups import Protocol
    from twin_merging.merging.choices import method_options
    from twin_merging.merging.chosen import resolve
    from twin_merging.merging.merged_factors import merge_factors
    from twin_merging.merging.registry import merging_methods

    settings = job.params.settings
    entry, _ = resolve(settings["entry"], next(iter(job.input.choice), None))
    merge_factors(
        method=merging_methods()[entry["method"]],
        options=method_options(entry),
        protocol=Protocol(entry["protocol"], settings["groups"]),
        base=folder(job.input.base[0]),
        task_vectors={Path(file).stem: Path(file) for file in job.input.task_vectors},
        output=Path(job.output[0]),
    )


run_job(snakemake, main)
