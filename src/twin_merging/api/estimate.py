"""The command `estimate`: what a suite takes, before any job of it runs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twin_merging.errors import UserError, unknown
from twin_merging.io.sizes import human_bytes
from twin_merging.io.strict_yaml import read_yaml
from twin_merging.io.validation import validate
from twin_merging.plan.estimate import estimate
from twin_merging.suite.configuration import Configuration
from twin_merging.suite.suite import Suite, load_suite

CONFIGURATION = Path("config/config.yaml")
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
    command.add_argument("--json", action="store_true", help="write JSON")


def _estimate(given: dict[str, Any]) -> None:
    configuration = _configuration()
    suite = _suite(given["suite"], configuration, given["glue"])
    gpus = configuration.gpus if given["gpus"] is None else given["gpus"]
    found = estimate(suite, configuration.threads.plain(), gpus)
    print(json.dumps(found, indent=2, ensure_ascii=False) if given["json"] else "\n".join(lines(found)))


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
