"""Where jobs leave their records, and what the provenance of a suite's tables is gathered from."""

from __future__ import annotations

from twin_merging.plan.inputs.files import Wildcards
from twin_merging.plan.targets import Job, job_name, jobs, making, scoring_jobs
from twin_merging.suite.suite import Suite
from twin_merging.tasks.rows import SPLITS

SOURCE = "source.json"  # beside everything that is fetched or made: where it comes from


def record_of(suite: Suite, job: Job) -> str:
    """The record of a job. Its path has the job's wildcards in the order in which its rule's paths have them."""
    return f"results/{suite.name}/records/{job_name(job)}.json"


def records(suite: Suite, wildcards: Wildcards) -> list[str]:
    """The records of all jobs that the suite's tables rest on."""
    return [record_of(suite, job) for job in jobs(suite)]


def records_of_scores(suite: Suite, wildcards: Wildcards) -> list[str]:
    """The records of the jobs that the suite's scores rest on."""
    return [record_of(suite, job) for job in scoring_jobs(suite)]


def of_models(suite: Suite, wildcards: Wildcards) -> list[str]:
    """The records of the jobs that make models from task vectors on, and of those that ask them."""
    made = [job for method in suite.methods for job in making(suite, method)]
    found = [*made, *(("predict", {"model": model}) for model in suite.models)]
    return list(dict.fromkeys(record_of(suite, job) for job in found))


def sources(suite: Suite, wildcards: Wildcards) -> list[str]:
    """What says of a suite's base, data, experts and fetched routers where they come from."""
    tasks = [f"{kind}/{task}" for kind in ("data", "experts") for task in suite.tasks]
    routers = [f"router/{wildcards['router']}" for rule, wildcards in jobs(suite) if rule == "fetch_router"]
    return [f"results/{suite.name}/{place}/{SOURCE}" for place in ("base", *tasks, *routers)]


def data(suite: Suite, wildcards: Wildcards) -> list[str]:
    """The rows of all tasks, which are counted."""
    return [f"results/{suite.name}/data/{task}/{split}.parquet" for task in suite.tasks for split in SPLITS]
