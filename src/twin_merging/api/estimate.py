"""The command `estimate`: what a suite takes, before any job of it runs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from twin_merging.errors import UserError, unknown
from twin_merging.io.sizes import human_bytes
from twin_merging.io.strict_yaml import read_yaml
from twin_merging.io.validation import validate
from twin_merging.plan.estimate import estimate
from twin_merging.suite.configuration import Configuration, Threads
from twin_merging.suite.suite import Suite, load_suite

CONFIGURATION = Path("config/config.yaml")
_A_DAY = 24 * 60  # minutes
_KNOWN = {
    "suite": "the suite says it",
    "lock": "the suite's lock says it",
    "local files": "local files",
    "made here": "computed: it is made here",
    "default": "nobody says it: a default (docs/scaling.md); say `size`, or run: snakemake lock",
}


def add_estimate(command: argparse.ArgumentParser) -> None:
    command.set_defaults(command=_estimate)
    command.description = "Bytes to fetch, disk, jobs, their memory and time. docs/scaling.md says how they are found."
    command.add_argument("suite", metavar="SUITE", help="a suite's name, or its file")
    command.add_argument("--glue", metavar="DIR", help="as `--config glue=DIR` of a run")
    command.add_argument("--gpus", type=int, metavar="N", help="as `--config gpus=N` of a run")
    command.add_argument("--threads", action="append", default=[], metavar="STAGE=N",
                         help="threads of a stage's jobs (the configuration's); may be repeated")  # fmt: skip
    command.add_argument("--json", action="store_true", help="write JSON")


def _estimate(given: dict[str, Any]) -> None:
    configuration = _configuration()
    suite = _suite(given["suite"], configuration, given["glue"])
    gpus = configuration.gpus if given["gpus"] is None else given["gpus"]
    threads = _threads(configuration, given["threads"])
    found = estimate(suite, threads, gpus)
    if given["json"]:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    print("\n".join(lines(found)))
    if not gpus and found["longest"][0]["runtime"] > _A_DAY:
        print(_by_gpu(found, estimate(suite, threads, 1)))


def _threads(configuration: Configuration, given: Iterable[str]) -> dict[str, int]:
    """Threads of each stage: those that are given, the configuration's for the others."""
    own = dict(text.partition("=")[::2] for text in given)
    try:
        chosen = {stage: int(count) if count.isdigit() else count for stage, count in own.items()}
        return validate(Threads, {**configuration.threads.plain(), **chosen}).plain()
    except ValueError as error:
        raise UserError(f"--threads: {error}") from None


def _by_gpu(found: dict[str, Any], other: dict[str, Any]) -> str:
    """How long the longest job asks for where jobs that run a model have a GPU."""
    first, then = found["longest"][0]["job"], other["longest"][0]
    rule = first.partition("/")[0]
    own = next(each for each in other["rules"] if each["rule"] == rule)
    return (
        f"{first} takes days without a GPU; with --gpus 1: {_time(own['runtime'])} (then the longest is {then['job']}, "
        f"{_time(then['runtime'])})"
    )


def _configuration() -> Configuration:
    """The configuration of the working folder; its defaults where there is none."""
    try:
        return validate(Configuration, read_yaml(CONFIGURATION) if CONFIGURATION.is_file() else {})
    except ValueError as error:
        raise UserError(f"{CONFIGURATION}: {error}") from None


def _suite(name: str, configuration: Configuration, glue: str | None) -> Suite:
    """The suite of that name in the folder that the configuration names, or in a file. Raises UserError where there is
    none."""
    file = Path(name) if name.endswith(".yaml") else Path(configuration.suites, f"{name}.yaml")
    if not file.is_file():
        known = [path.stem for path in sorted(file.parent.glob("*.yaml"))]
        if not known:
            raise UserError(f"{file.parent}: holds no suites; start in a folder that has config/suites, or name a file")
        raise UserError(f"{file.parent}: {unknown('suite', file.stem, known)}")
    return load_suite(file, glue or configuration.glue)


def lines(found: dict[str, Any]) -> Iterator[str]:
    """What an estimate says, for reading."""
    yield f"{found['suite']}: {found['title']}"
    yield f"a base of {_count(found['parameters'])} parameters; {found['jobs']['count']} jobs"
    yield ""
    yield f"to fetch from the Hub: {human_bytes(found['fetched'])}"
    for source in found["sources"]:
        known = "; ".join(_KNOWN[each] for each in source["known"])
        name = source["name"] if source["count"] == 1 else f"{source['name']} of {source['count']} tasks"
        yield f"  {name:<24}{human_bytes(source['bytes']):>9}  {known}"
    yield ""
    yield f"disk, when all is there: {human_bytes(found['disk']['total'])}"
    for folder, size in found["disk"]["folders"].items():
        yield f"  {folder:<40}{human_bytes(size):>9}"
    yield ""
    yield f"times are for {_machine(found)}"
    yield "a job asks for at most       jobs    memory     time      disk  GPUs"
    for rule in found["rules"]:
        yield (
            f"  {rule['rule']:<25}{rule['jobs']:>6}{_memory(rule['mem_mb']):>10}{_time(rule['runtime']):>9}"
            f"{_memory(rule['disk_mb']):>10}{rule['gpu']:>6}"
        )
    yield ""
    for key, what in (("most_memory", "most memory"), ("longest", "longest")):
        first = found[key][0]
        yield f"{what}: {first['job']} ({_memory(first['mem_mb'])}, {_time(first['runtime'])})"
    yield f"expected of all jobs, one after another: {_time(60 * found['jobs']['expected'])}"


def _machine(found: dict[str, Any]) -> str:
    """The threads and GPUs that an estimate is for."""
    more = ", ".join(f"{count} for {stage}" for stage, count in found["threads"].items() if count > 1)
    threads = f"1 thread a job ({more})" if more else "1 thread a job"
    gpus = found["gpus"]
    return f"{threads}, {gpus} GPU{'s' * (gpus > 1)} for jobs that run a model" if gpus else f"{threads}, no GPU"


def _count(parameters: int) -> str:
    return human_bytes(parameters).removesuffix("B").replace("k", " thousand").replace("M", "million").replace(
        "G", "billion").replace("T", "trillion").replace("  ", " ")  # fmt: skip


def _memory(mebibytes: float) -> str:
    return human_bytes(mebibytes * 2**20)


def _time(minutes: float) -> str:
    """Minutes as a reader takes them in: 11 min, 3.2 h, 4.1 d."""
    if minutes < 90:
        return f"{minutes:.0f} min"
    return f"{minutes / 60:.1f} h" if minutes < 48 * 60 else f"{minutes / 1440:.1f} d"
