"""Rules assemble, assemble_decoder and assemble_factors: assembling a dynamic method's model."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import folder, run_job


def main(job: Any) -> None:
    from twin_merging.merging.chosen import resolve
    from twin_merging.model.assemble import assemble
    from twin_merging.routing.expected import EXPECTED_LOSS, read_gains

    settings = job.params.settings
    choice = next(iter(job.input.choice), None)
    crosses = settings["entry"].get("weights") == EXPECTED_LOSS
    entry, chosen = resolve(settings["entry"], None if crosses else choice)
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
        gains=read_gains(choice, settings["tasks"]) if crosses else None,
        base=folder(job.input.base[0]) if job.input.base else None,
    )


run_job(snakemake, main)
