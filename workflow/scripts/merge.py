"""Rules merge, merge_decoder and merge_masked: merging by a method that needs no router."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import folder, run_job


def main(job: Any) -> None:
    from twin_merging.checkpoints.groups import Protocol
    from twin_merging.io.sharding import Shards
    from twin_merging.merging.choices import method_options
    from twin_merging.merging.chosen import resolve
    from twin_merging.merging.merge import merge_directory
    from twin_merging.merging.registry import merging_methods

    settings = job.params.settings
    entry, chosen = resolve(settings["entry"], next(iter(job.input.choice), None))
    left_out = settings.get("left_out", [])
    tasks = [task for task in settings["heads"] if task not in left_out]
    method = merging_methods()[entry["method"]]
    statistics = [Path(path) for path in job.input.statistics]
    if method.joint:  # a folder of all tasks
        statistics = [statistics[0] / f"{task}.safetensors" for task in tasks]
    merge_directory(
        method=method,
        options=method_options(entry),
        protocol=Protocol(entry["protocol"], settings["groups"]),
        base=folder(job.input.base[0]),
        task_vectors=dict(zip(tasks, map(Path, job.input.task_vectors), strict=True)),
        experts={folder(file).name: folder(file) for file in job.input.experts},
        output=folder(job.output.config),
        heads=settings["heads"],
        left_out=left_out,
        statistics=dict(zip(tasks, statistics, strict=True)) if statistics else None,
        workers=job.threads,
        chosen=chosen,
        shards=Shards.of_settings(settings),
    )


run_job(snakemake, main)
