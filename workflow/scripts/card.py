"""Rule card: README.md of a merged model."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import folder, run_job


def main(job: Any) -> None:
    from twin_merging.reporting.card import write_card

    settings = job.params.settings
    write_card(
        name=settings["name"],
        title=settings["title"],
        sources=settings["sources"],
        family=settings["family"],
        directory=folder(job.input.manifest),
        scores=Path(job.input.scores),
        router_metrics=Path(job.input.metrics[0]) if job.input.metrics else None,
        output=Path(job.output[0]),
    )


run_job(snakemake, main)
