"""Rule joint_statistics: what a merging method finds from the training rows of all its tasks."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import folder, run_job


def main(job: Any) -> None:
    from twin_merging.checkpoints.groups import Protocol
    from twin_merging.joint_statistics.gather import gather_joint_statistics
    from twin_merging.merging.choices import method_options
    from twin_merging.merging.registry import merging_methods
    from twin_merging.tasks.families import family_named

    settings = job.params.settings
    entry, family = settings["entry"], family_named(settings["family"])
    folders = {folder(file).name: folder(file) for file in job.input.data}
    gather_joint_statistics(
        merging_methods()[entry["method"]].statistics,
        options=method_options(entry),
        protocol=Protocol(entry["protocol"], settings["groups"]),
        base=folder(job.input.base[0]),
        task_vectors={Path(file).stem: Path(file) for file in job.input.task_vectors},
        experts={folder(file).name: folder(file) for file in job.input.experts},
        data={task: place / "train.parquet" for task, place in folders.items()},
        tasks=family.views(family.answers, settings["tasks"], folders),
        rows=settings["rows"],
        max_length=settings["max_length"],
        output=Path(job.output[0]),
    )


run_job(snakemake, main)
