"""The jobs that a suite's tables rest on, and where each leaves its record."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from twin_merging.fetching.sources import is_adapter
from twin_merging.routing.layers import features_name
from twin_merging.suite.locks import hub_sources
from twin_merging.suite.suite import Suite


class JobName(NamedTuple):
    """A job of a suite: its rule, and the rule's wildcards but for the suite, in the order in which paths have them."""

    rule: str
    wildcards: dict[str, str]

    def record(self, suite: str) -> str:
        """Where the job leaves its record."""
        return "/".join(("results", suite, "records", self.rule, *self.wildcards.values())) + ".json"


def jobs_of_tables(suite: Suite, *rules: str) -> list[JobName]:
    """Every job that the suite's tables rest on, sources first, and no other; of `rules`, where some are given."""
    jobs = [*_sources(suite), *_experts(suite), *_models(suite), *_answers(suite)]
    return [job for job in jobs if not rules or job.rule in rules]


def records_of_tables(suite: Suite) -> list[str]:
    """The records of all jobs that the suite's tables rest on."""
    return [job.record(suite.name) for job in jobs_of_tables(suite)]


def source_files_of(suite: Suite) -> list[str]:
    """The files that say of a suite's base, data, experts and fetched routers where they come from."""
    tasks = [f"{kind}/{task}" for kind in ("data", "experts") for task in suite.tasks]
    routers = [f"router/{router}" for router in _routers(suite) if _is_fetched(suite, router)]
    return [f"results/{suite.name}/{place}/source.json" for place in ("base", *tasks, *routers)]


def _sources(suite: Suite) -> Iterator[JobName]:
    if any(True for _ in hub_sources(suite.content)):
        yield JobName("pin", {})
    yield JobName("generate_base" if "generate" in suite.content["base"] else "fetch_base", {})
    for task, entry in suite.tasks.items():
        yield JobName("generate_data" if "generate" in entry["data"] else "fetch_data", {"task": task})


def _experts(suite: Suite) -> Iterator[JobName]:
    for task, entry in suite.tasks.items():
        kind = "adapter" if is_adapter(entry["expert"]) else "expert"
        tuned = {"adapter": "finetune_adapter", "expert": "finetune"}[kind]
        yield JobName(tuned if "finetune" in entry["expert"] else f"fetch_{kind}", {"task": task})
    yield from (JobName("task_vectors", {"task": task}) for task in suite.tasks)
    kinds = dict.fromkeys(suite.method(method).statistics for method in suite.methods)
    for kind in filter(None, kinds):
        yield from (JobName("training_statistics", {"kind": kind, "task": task}) for task in suite.tasks)


def _models(suite: Suite) -> Iterator[JobName]:
    for method in suite.methods:
        if method not in suite.dynamic:
            yield JobName("merge_masked" if method in suite.masked else "merge", {"method": method})
    for shared in dict.fromkeys(suite.methods[method]["shared"] for method in suite.dynamic):
        yield from (JobName("compress", {"shared": shared, "task": task}) for task in suite.tasks)
    features = [
        (router.split("/")[0], features_name(suite.router_settings(router)["features"])) for router in _routers(suite)
    ]
    for shared, name in dict.fromkeys(features):
        yield JobName("route_features", {"shared": shared, "features": name})
    for router in _routers(suite):
        if _is_fetched(suite, router):
            yield JobName("fetch_router", {"router": router})
        yield JobName("route", {"router": router})
    yield from (JobName("assemble", {"method": method}) for method in suite.dynamic)


def _answers(suite: Suite) -> Iterator[JobName]:
    yield from (JobName("predict", {"model": model}) for model in suite.models)
    yield from (JobName("score", {}), JobName("tabulate", {}))


def _routers(suite: Suite) -> list[str]:
    return list(dict.fromkeys(suite.router_name(method) for method in suite.dynamic))


def _is_fetched(suite: Suite, router: str) -> bool:
    return "hub" in suite.router_settings(router)
