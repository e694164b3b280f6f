"""What a suite takes before any job of it has run: bytes to fetch, disk, jobs, their memory and time.

All of it is computed by the functions that a job's resources come from (`twin_merging.plan.resources`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from twin_merging.plan.figures import names as figures
from twin_merging.plan.resources import RULES, RUNS_A_MODEL, needed, of_job, seconds, threads_of
from twin_merging.plan.sizes import Known, Sizes, sizes_of
from twin_merging.plan.targets import Job, job_name, jobs
from twin_merging.plan.work import STORED_ANSWER, Work
from twin_merging.suite.suite import Suite


def all_jobs(suite: Suite) -> list[Job]:
    """Every job that a call without a target runs: of the tables, the cards, the figures and the page."""
    found = jobs(suite)
    cards = [("card", {"method": method}) for method in suite.dynamic]
    drawn = [("figure", {"figure": name}) for name in figures(suite)]
    plane = [("plane", {"method": suite.plane.method})] if suite.plane else []
    return [*found, *cards, *plane, *drawn, ("cost", {}), ("provenance", {}), ("page", {})]


def estimate(suite: Suite, threads: Mapping[str, int] | None = None, gpus: int = 0) -> dict[str, Any]:
    """Plain data. Bytes in bytes, memory and disk of jobs in MiB, `runtime` in minutes, as a job asks for them;
    `expected` is hours of all jobs one after another, without what is asked for to be on the safe side."""
    sizes = sizes_of(suite)
    disk = folders(suite)
    described = [_described(suite, job, threads, gpus) for job in all_jobs(suite)]
    return {
        "suite": suite.name,
        "title": suite.says.title,
        "parameters": sizes.shape.parameters,
        "threads": dict(threads or {}),
        "gpus": gpus,
        "sources": [*_sources(suite, sizes)],
        "fetched": sum(known.bytes for _, known, is_fetched in _fetched(suite, sizes) if is_fetched),
        "disk": {"folders": disk, "total": sum(disk.values())},
        "jobs": {"count": len(described), "expected": round(sum(job["expected"] for job in described), 3)},
        "rules": [*_by_rule(described)],
        "most_memory": _largest(described, "mem_mb"),
        "longest": _largest(described, "runtime"),
    }


def _described(suite: Suite, job: Job, threads: Mapping[str, int] | None, gpus: int) -> dict[str, Any]:
    rule, others = job
    wildcards = {"suite": suite.name, **others}
    asked = of_job(suite, rule, wildcards, threads, gpus=gpus)
    need = needed(suite, rule, wildcards, threads)
    expected = seconds(need, threads_of(rule, threads), gpus if rule in RUNS_A_MODEL else 0)
    return {
        "rule": rule,
        "job": job_name(job),
        "mem_mb": asked.mem_mb,
        "runtime": asked.runtime,
        "disk_mb": asked.disk_mb,
        "gpu": asked.gpu,
        "expected": expected / 3600,
    }


def _by_rule(described: list[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    """Of each rule its number of jobs, the most that one of them asks for, and the expected hours of all."""
    for rule in RULES:
        own = [job for job in described if job["rule"] == rule]
        if own:
            most = {what: max(job[what] for job in own) for what in ("mem_mb", "runtime", "disk_mb", "gpu")}
            yield {"rule": rule, "jobs": len(own), **most, "expected": round(sum(job["expected"] for job in own), 3)}


def _largest(described: list[dict[str, Any]], what: str, count: int = 5) -> list[dict[str, Any]]:
    """The jobs that ask for most, each rule once."""
    found: dict[str, dict[str, Any]] = {}
    for job in sorted(described, key=lambda job: -job[what]):
        found.setdefault(job["rule"], {key: job[key] for key in ("job", "mem_mb", "runtime", "disk_mb", "gpu")})
    return list(found.values())[:count]


# -- what is fetched


def _fetched(suite: Suite, sizes: Sizes) -> Iterable[tuple[str, Known, bool]]:
    """Every source: what it is of, its size, and whether it comes from the Hub."""
    yield "base", sizes.base, "hub" in suite.says.base.plain()
    for name, task in suite.tasks.items():
        yield "experts", sizes.experts[name].files, "hub" in task.expert.plain()
        yield "data", sizes.data[name], "hub" in task.data.plain()


def _sources(suite: Suite, sizes: Sizes) -> Iterable[dict[str, Any]]:
    """Base, experts and data: how many bytes, whether they are fetched, and from where the figures are known."""
    kinds: dict[str, list[tuple[Known, bool]]] = {}
    for name, known, is_fetched in _fetched(suite, sizes):
        kinds.setdefault(name, []).append((known, is_fetched))
    for name, found in kinds.items():
        yield {
            "name": name,
            "count": len(found),
            "bytes": sum(known.bytes for known, _ in found),
            "fetched": sum(known.bytes for known, is_fetched in found if is_fetched),
            "known": sorted({known.known for known, _ in found}),
        }


# -- disk


def folders(suite: Suite) -> dict[str, int]:
    """Bytes of what lies in each folder of the results, and in the Hub's cache. A model that is assembled has its
    shared expert's weights under a second name, which takes no space."""
    sizes = sizes_of(suite)
    work = Work(suite, sizes, {})
    shared = dict.fromkeys(map(suite.shared, suite.dynamic))
    made = jobs(suite)
    found: dict[str, float] = {
        "base": sizes.body,
        "experts": sum(map(work.expert, suite.tasks)),
        "data": work.data(suite.tasks),
        "task_vectors": work.vectors(suite.tasks),
        "statistics": sum(work.statistics(w["kind"]) for rule, w in made if rule == "training_statistics"),
        "joint_statistics": sum(
            len(suite.merged(w["method"])) * work.statistics(suite.method(w["method"]).statistics or "")
            for rule, w in made
            if rule == "joint_statistics"
        ),
        "models": sum(work.directory(name) - (sizes.body if name in suite.dynamic else 0) for name in suite.methods),
        "exclusive": sum(work.exclusive(name) * len(suite.merged(name)) for name in shared),
        "factors": sum(work.exclusive(w["shared"], "factor") for rule, w in made if rule == "compress_factors"),
        "router": sum(Work(suite, sizes, w).features(w["shared"]) for rule, w in made if rule == "route_features"),
        "predictions": STORED_ANSWER * sum(map(work.test_rows, suite.models)),
    }
    named = {f"results/{suite.name}/{name}": round(size) for name, size in found.items() if size}
    cache = sum(known.bytes for _, known, is_fetched in _fetched(suite, sizes) if is_fetched)
    return {**named, **({"Hub cache (HF_HOME)": cache} if cache else {})}
