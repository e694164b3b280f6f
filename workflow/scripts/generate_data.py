"""Rule generate_data: generating a task's rows."""

from pathlib import Path
from typing import Any

from twin_merging.jobs.run import folder, run_job


def main(job: Any) -> None:
    from twin_merging.io.files import write_json
    from twin_merging.io.validation import validate
    from twin_merging.synthetic.families import rows_of
    from twin_merging.tasks.families import family_named
    from twin_merging.tasks.rows import SPLITS, write_rows

    settings = job.params.settings
    generate = settings["generate"]
    task = validate(family_named(settings["family"]).rows, settings["task"])
    counts = {split: generate[split] for split in SPLITS}
    made = rows_of(settings["family"]).generate_task(generate["task"], counts, settings["seed"])
    splits = {split: (rows, f"generated task '{generate['task']}', {split}") for split, rows in made.items()}
    write_rows(splits, task, folder(job.output.train))
    write_json(Path(job.output.source), {"source": {"generate": generate}, "seed": settings["seed"]})


run_job(snakemake, main)
