"""Checks of files: every file is as its job wrote it, and every job read what another wrote."""

from __future__ import annotations

from twin_merging.auditing.results import Findings, Job, Results, target
from twin_merging.jobs.records import tensor_checksums

SOURCES = ("fetch_", "generate_")  # rules that a chain may begin with


def check_files(results: Results) -> Findings:
    """Every output of every job has the SHA-256 that the job recorded."""
    found = Findings()
    size = 0
    for name, job in results.makers.items():
        wanted = job["outputs"][name]
        now = results.hash_now(name)
        size += wanted["size"]
        if now is None:
            found.fail(f"{name}: missing; {job['name']} made it", job)
        elif now != wanted["sha256"]:
            where = _changed_tensors(results, name, job)
            found.fail(f"{name}: SHA-256 is {now}, but {job['name']} wrote {wanted['sha256']}{where}", job)
    for name in results.provenance["tables"]:
        if name not in results.makers:
            found.fail(f"{name}: no record of the job that made it")
    found.facts = {"files": len(results.makers), "bytes": size}
    found.summary = f"{len(results.makers)} files, {size / 1e6:.1f} MB, are what their jobs wrote"
    return found


def _changed_tensors(results: Results, name: str, job: Job) -> str:
    """The tensors in which a safetensors file differs from what was written."""
    wanted = job["outputs"][name].get("tensors")
    if wanted is None:
        return ""
    try:
        now = tensor_checksums(results.path(name))
    except (ValueError, KeyError, TypeError, AttributeError):
        return "; it is no whole safetensors file"
    differ = [tensor for tensor in {**wanted, **now} if wanted.get(tensor) != now.get(tensor)]
    if not differ:
        return "; its header differs"
    more = f" and {len(differ) - 5} more" if len(differ) > 5 else ""
    return f"; tensors that differ: {', '.join(differ[:5])}{more}"


def check_chain(results: Results) -> Findings:
    """Every input of every job is what a recorded job wrote, and is that still, or lies outside of the results."""
    found = Findings()
    records = {
        results.of_suite("records", f"{name}.json") for name in results.jobs
    }  # a job writes its own, and no other
    links = outside = 0
    for job in results.jobs.values():
        if not job["inputs"] and not job["rule"].startswith(SOURCES):
            found.fail(f"{target(job)}: {job['name']} read nothing, by its record", job)
        for name in job["inputs"]:
            maker = results.makers.get(name)
            if maker is not None:
                links += 1
                _check_link(found, job, name, maker)
            elif name in records:
                links += 1
                if results.hash_now(name) != job["inputs"][name]["sha256"]:
                    found.fail(
                        f"{name}: what it holds now is not what {job['name']} read, so what that made is stale", job
                    )
            elif name.startswith(results.of_suite("")):
                found.fail(f"{name}: {job['name']} read it, and no record says what made it", job)
            else:
                outside += 1
    _check_readers(results, found)
    for task in results.content["tasks"]:
        for name in (results.of_suite("data", task, "train.parquet"), results.of_suite("data", task, "test.parquet")):
            if name not in results.makers:
                found.fail(f"{name}: no record says where it comes from")
    if results.of_suite("scores.csv") not in results.makers:
        found.fail(f"{results.of_suite('scores.csv')}: no record says what made it")
    found.facts = {"jobs": len(results.jobs), "links": links, "inputs from outside": outside}
    found.summary = f"{len(results.jobs)} jobs, {links} inputs: each is what the job before it wrote"
    return found


def _check_link(found: Findings, job: Job, name: str, maker: Job) -> None:
    read, wrote = job["inputs"][name]["sha256"], maker["outputs"][name]["sha256"]
    if read != wrote:
        found.fail(f"{name}: {job['name']} read {read[:16]}, but {maker['name']} wrote {wrote[:16]}: stale", job)


def _check_readers(results: Results, found: Findings) -> None:
    """Name the jobs that read a file before it came to hold what it holds now."""
    readers: dict[str, list[str]] = {}
    for job in results.jobs.values():
        for name, entry in job["inputs"].items():
            maker = results.makers.get(name)
            if maker is None or entry["sha256"] != maker["outputs"][name]["sha256"]:
                continue
            if results.hash_now(name) not in (None, entry["sha256"]):
                readers.setdefault(name, []).append(job["name"])
    for name, jobs in readers.items():
        found.fail(f"{name}: what it holds now is not what {', '.join(jobs)} read, so what they made is stale")
