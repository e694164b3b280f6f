"""Rules assemble, assemble_decoder and assemble_factors: assembling a dynamic method's model."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import folder, run_job


def main(job: Any) -> None:
    from twin_merging.merging.chosen import resolve
    from twin_merging.model.assemble import assemble

    settings = job.params.settings
    entry, chosen = resolve(settings["entry"], next(iter(job.input.choice), None))
    assemble(
        entry,
        settings["head"],
        shared=folder(job.input.shared[0]),
        exclusives=dict(zip(settings["tasks"], map(Path, job.input.exclusives), strict=True)),
        router=Path(job.input.router[0]) if job.input.router else None,
        router_settings=settings["router"],
        output=folder(job.output.config),
        left_out=settings.get("left_out", []),
        factors=Path(job.input.factors[0]) if job.input.factors else None,
        chosen=chosen,
        base=folder(job.input.base[0]) if job.input.base else None,
    )


run_job(snakemake, main)
