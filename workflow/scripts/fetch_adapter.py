"""Rule fetch_adapter: fetching an expert that is a LoRA adapter."""

from typing import Any

from twin_merging.jobs.run import folder, run_job


def main(job: Any) -> None:
    from twin_merging.checkpoints.label_names import read_names
    from twin_merging.fetching.models import fetch_adapter
    from twin_merging.suite.locks import locked_files
    from twin_merging.tasks.families import whole_model

    settings = job.params.settings
    base, output = folder(job.input.base[0]), folder(job.output.config)
    pinned = locked_files(job.input.locks, job.wildcards.suite, "expert", settings["source"])
    whole = whole_model(settings["family"], settings["head"])
    names = settings["label_names"] or read_names([*job.input.label_names, *job.input.hub_label_names])
    fetch_adapter(
        settings["source"],
        base=base,
        output=output,
        whole=whole,
        pinned=pinned,
        label_names=names,
        aligned=settings.get("aligned", False),
    )


run_job(snakemake, main)
