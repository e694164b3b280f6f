"""Rule lm_eval_table: the table of what lm-eval found."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import run_job


def main(job: Any) -> None:
    from twin_merging.reporting.lm_eval import write_lm_eval_tables

    settings = job.params.settings
    write_lm_eval_tables(
        title=settings["title"],
        results=dict(zip(settings["models"], map(Path, job.input.results), strict=True)),
        knowledge=settings["models"],
        outputs={name: Path(path) for name, path in job.output.items() if name != "record"},
    )


run_job(snakemake, main)
