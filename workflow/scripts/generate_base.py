"""Rule generate_base: making and pretraining the base of an embedded suite."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import folder, run_job


def main(job: Any) -> None:
    from twin_merging.io.files import write_json
    from twin_merging.jobs.progress import Progress
    from twin_merging.synthetic.families import base_of

    settings = job.params.settings
    output = folder(job.output.config)
    progress = Progress(settings["generate"]["steps"], "steps")
    generate_base = base_of(settings["family"]).generate_base
    generate_base(output, seed=settings["seed"], **settings["generate"], progress=progress.update)
    write_json(Path(job.output.source), {"source": {"generate": settings["generate"]}, "seed": settings["seed"]})


run_job(snakemake, main)
