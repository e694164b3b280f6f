"""Rule fetch_base: fetching a base from the Hub, a folder or a package."""

from typing import Any

from twin_merging.jobs.run import folder, run_job


def main(job: Any) -> None:
    from twin_merging.fetching.models import fetch_base
    from twin_merging.fetching.united import Tokens
    from twin_merging.io.sharding import Shards
    from twin_merging.suite.locks import locked_files
    from twin_merging.tasks.families import whole_model

    settings = job.params.settings
    source, whole = settings["source"], whole_model(settings["family"])
    tokens = None
    if united := settings.get("vocabulary"):
        experts = {name: one["source"] for name, one in united["experts"].items()}
        locks = {name: locked_files(job.input.locks, job.wildcards.suite, "expert", one)
                 for name, one in experts.items()}  # fmt: skip
        tokens = Tokens(united["rule"], {name: (one, locks[name]) for name, one in experts.items()})
    fetch_base(
        source,
        folder(job.output.config),
        locked_files(job.input.locks, job.wildcards.suite, "base", source),
        whole=whole,
        shards=Shards.of_settings(settings),
        tokens=tokens,
    )


run_job(snakemake, main)
