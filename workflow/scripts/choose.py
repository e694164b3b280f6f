"""Rule choose: a method's options whose values are chosen on validation rows, or scores that its weights rest on."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import folder, run_job


def main(job: Any) -> None:
    from twin_merging.choosing.choose import choose
    from twin_merging.choosing.crossed import cross_scores
    from twin_merging.choosing.validation import ValidationRows, expert_scores
    from twin_merging.merging.registry import merging_methods
    from twin_merging.routing.expected import EXPECTED_LOSS
    from twin_merging.tasks.families import family_named

    settings = job.params.settings
    family = family_named(settings["family"])
    method = merging_methods()[settings["entry"]["method"]]
    data = {folder(file).name: folder(file) for file in job.input.data}
    rows = ValidationRows(
        data=data,
        views=family.views(family.answers, settings["tasks"], data),
        metrics=settings["metrics"],
        limit=settings["limit"],
        inference=settings["inference"],
    )
    name, output = job.wildcards.method, Path(job.output[0])
    if settings["entry"].get("weights") == EXPECTED_LOSS:
        cross_scores(name=name, candidates=_assembled(job, method), rows=rows, head=settings["head"], output=output)
        return
    choose(
        name=name,
        method=method,
        entry=settings["entry"],
        candidates=(_assembled if method.kind == "dynamic" else _merged)(job, method),
        rows=rows,
        experts=expert_scores(map(Path, job.input.scores)),
        head=settings["head"],
        output=output,
    )


def _merged(job: Any, method: Any) -> Any:
    from twin_merging.checkpoints.groups import Protocol
    from twin_merging.choosing.merged import MergedCandidates

    settings, tasks = job.params.settings, list(job.params.settings["heads"])
    statistics = map(Path, job.input.statistics)
    return MergedCandidates(
        method=method,
        entry=settings["entry"],
        protocol=Protocol(settings["entry"]["protocol"], settings["groups"]),
        base=folder(job.input.base[0]),
        task_vectors=dict(zip(tasks, map(Path, job.input.task_vectors), strict=True)),
        experts={folder(file).name: folder(file) for file in job.input.experts},
        heads=settings["heads"],
        statistics=dict(zip(tasks, statistics, strict=True)) if job.input.statistics else None,
        workers=job.threads,
        dtype=settings["dtype"],
        place=Path(job.params.candidates),
    )


def _assembled(job: Any, method: Any) -> Any:
    from twin_merging.choosing.assembled import AssembledCandidates

    settings = job.params.settings
    return AssembledCandidates(
        entry=settings["entry"],
        head=settings["head"],
        shared=folder(job.input.shared[0]),
        exclusives=dict(zip(settings["tasks"], map(Path, job.input.exclusives), strict=True)),
        router=Path(job.input.router[0]) if job.input.router else None,
        router_settings=settings["router"],
        factors=Path(job.input.factors[0]) if job.input.factors else None,
        dtype=settings["dtype"],
        place=Path(job.params.candidates),
        base=folder(job.input.base[0]) if job.input.base else None,
    )


run_job(snakemake, main)
