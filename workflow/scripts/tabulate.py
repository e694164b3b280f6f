"""Rule tabulate: the suite's tables."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import run_job


def main(job: Any) -> None:
    from twin_merging.reporting.tables import write_tables

    settings = job.params.settings
    write_tables(
        settings["title"],
        Path(job.input.scores),
        settings["tasks"],
        settings["knowledge"],
        {model: Path(file) for model, file in zip(settings["dynamic"], job.input.predictions, strict=True)},
        {model: Path(file) for model, file in zip(settings["dynamic"], job.input.router_metrics, strict=True)},
        {name: Path(path) for name, path in job.output.items() if name != "record"},
    )


run_job(snakemake, main)
