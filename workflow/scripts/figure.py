"""Rule figure: one figure of a suite, as SVG and as PNG."""

from importlib import import_module
from pathlib import Path
from typing import Any

from twin_merging.jobs.run import run_job


def main(job: Any) -> None:
    from twin_merging.reporting.figures.style import drawing, save

    settings = job.params.settings
    module = import_module(f"twin_merging.reporting.figures.{settings['draws']}")
    files = {name: [Path(path) for path in paths] for name, paths in job.input.items()}
    with drawing():
        save(module.draw(settings, files), Path(job.output.svg), Path(job.output.png))


run_job(snakemake, main)
