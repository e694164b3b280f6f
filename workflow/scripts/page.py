"""Rule page: the page that shows a suite's results."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import folder, run_job


def main(job: Any) -> None:
    from twin_merging.reporting.page.page import Files, write_page

    settings, read = job.params.settings, job.input
    write_page(
        settings,
        Files(
            normalised=Path(read.normalised),
            absolute=Path(read.absolute),
            experts=Path(read.experts),
            unseen=Path(read.unseen),
            router=Path(read.router),
            routing=Path(read.routing),
            cost=Path(read.cost),
            intervals=Path(read.intervals),
            runs=Path(read.runs),
            choices=[Path(file) for file in read.choices],
            figures=[Path(file) for file in read.figures],
            provenance=Path(read.provenance),
            predictions={Path(file).stem: Path(file) for file in read.predictions},
            data={task: folder(file) for task, file in zip(settings["tasks"], read.data, strict=True)},
            audit=job.params.audit,
        ),
        Path(job.output[0]),
    )


run_job(snakemake, main)
