"""Rule joint_statistics: what a merging method finds from the training rows of all its tasks."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import folder, run_job


def main(job: Any) -> None:
    from twin_merging.checkpoints.groups import Protocol
    from twin_merging.io.validation import validate
    from twin_merging.joint_statistics.gather import gather_joint_statistics
    from twin_merging.merging.choices import method_options
    from twin_merging.merging.registry import merging_methods
    from twin_merging.tasks.families import family_named

    settings = job.params.settings
    entry, answers = settings["entry"], family_named(settings["family"]).answers
    gather_joint_statistics(
        merging_methods()[entry["method"]].statistics,
        options=method_options(entry),
        protocol=Protocol(entry["protocol"], settings["groups"]),
        base=folder(job.input.base[0]),
        task_vectors={Path(file).stem: Path(file) for file in job.input.task_vectors},
        experts={folder(file).name: folder(file) for file in job.input.experts},
        data={folder(file).name: Path(file) for file in job.input.data},
        tasks={task: validate(answers, own) for task, own in settings["tasks"].items()},
        rows=settings["rows"],
        max_length=settings["max_length"],
        output=Path(job.output[0]),
    )


run_job(snakemake, main)
