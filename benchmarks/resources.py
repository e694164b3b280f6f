"""What jobs asked for against what they took, by rule, from the records and benchmark files of finished runs.

    python -m benchmarks.resources results/quickstart [OTHER/results/minilm ...] --suites config/suites

Prints a table for each folder. A job that reads little takes what its libraries take, so a job counts as well asked for
where it asked for at least what it took, and for at most four times that or four times the libraries' share.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from twin_merging.io.files import read_json
from twin_merging.plan.resources import LEAST_DISK, LEAST_MINUTES, LIBRARIES, MEBIBYTE, RULES, Resources, of_job
from twin_merging.suite.suite import Suite, load_suite

MOST = 4


@dataclass(frozen=True)
class Job:
    """A finished job: what it asked for; MiB of memory, minutes, and MiB of files that it took."""

    rule: str
    asked: Resources
    memory: float
    minutes: float
    disk: float

    @property
    def has_enough_memory(self) -> bool:
        return self.asked.mem_mb >= self.memory

    @property
    def has_little_too_much_memory(self) -> bool:
        return self.asked.mem_mb <= MOST * max(self.memory, LIBRARIES)

    @property
    def has_fitting_disk(self) -> bool:
        return self.disk <= self.asked.disk_mb <= MOST * max(self.disk, LEAST_DISK)

    @property
    def has_enough_time(self) -> bool:
        return self.asked.runtime >= self.minutes


def finished(results: Path, suite: Suite) -> Iterator[Job]:
    """The jobs of a suite that left a record and a benchmark file."""
    for file in sorted((results / "records").rglob("*.json")):
        record = read_json(file)
        usage = results / "benchmarks" / file.relative_to(results / "records").with_suffix(".tsv")
        if record["rule"] not in RULES or not usage.is_file():
            continue
        with open(usage, newline="") as stream:
            took = next(csv.DictReader(stream, delimiter="\t"))
        wildcards = {"suite": suite.name, **_of_rule(record["rule"], record["wildcards"])}
        disk = sum(entry["size"] for part in ("inputs", "outputs") for entry in record[part].values())
        yield Job(
            record["rule"],
            of_job(suite, record["rule"], wildcards, {_stage: _threads(record) for _stage in _STAGES}),
            float(took["max_rss"]),
            float(took["s"]) / 60,
            disk / MEBIBYTE,
        )


_STAGES = ("fetch", "generate", "finetune", "training_statistics", "merge", "predict", "compress", "route", "assemble")


def _threads(record: Mapping[str, object]) -> int:
    settings = record.get("settings")
    return int(settings.get("threads", 1)) if isinstance(settings, dict) else 1


def _of_rule(rule: str, wildcards: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in wildcards.items() if key != "suite"}


def table(jobs: list[Job]) -> Iterator[str]:
    """Lines of a Markdown table, a line a rule."""
    yield "| rule | jobs | memory taken, MiB | asked | asked / taken | minutes taken | asked | files, MiB | asked |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|---:|"
    for rule in RULES:
        own = [job for job in jobs if job.rule == rule]
        if not own:
            continue
        ratios = [job.asked.mem_mb / job.memory for job in own]
        cells = (
            rule,
            len(own),
            _range([job.memory for job in own], "{:.0f}"),
            _range([job.asked.mem_mb for job in own], "{:.0f}"),
            _range(ratios, "{:.1f}"),
            _range([job.minutes for job in own], "{:.2f}"),
            _range([job.asked.runtime for job in own], "{:.0f}"),
            _range([job.disk for job in own], "{:.1f}"),
            _range([job.asked.disk_mb for job in own], "{:.0f}"),
        )
        yield f"| {' | '.join(map(str, cells))} |"


def _range(values: list[float], form: str) -> str:
    least, most = form.format(min(values)), form.format(max(values))
    return least if least == most else f"{least} to {most}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="+", type=Path, help="results/SUITE of finished runs")
    parser.add_argument("--suites", type=Path, default=Path("config/suites"))
    parser.add_argument("--glue", metavar="DIR", help="as `--config glue=DIR` of the runs")
    arguments = parser.parse_args()
    for results in arguments.results:
        jobs = list(finished(results, load_suite(arguments.suites / f"{results.resolve().name}.yaml", arguments.glue)))
        print(f"\n### {results.name}: {len(jobs)} jobs\n")
        print("\n".join(table(jobs)))
        short = [job.rule for job in jobs if not job.has_enough_memory]
        wide = [job.rule for job in jobs if not job.has_little_too_much_memory]
        late = [job.rule for job in jobs if not job.has_enough_time]
        odd = [job.rule for job in jobs if not job.has_fitting_disk]
        print(f"\nToo little memory: {_names(short)}. More than {MOST} times what they or their libraries took: "
              f"{_names(wide)}. Too little time: {_names(late)}. Disk less than taken, or more than {MOST} times that: "
              f"{_names(odd)}. (At least {LEAST_MINUTES} minutes and {LEAST_DISK} MiB are asked for.)")  # fmt: skip


def _names(rules: list[str]) -> str:
    return ", ".join(f"{rule} ({rules.count(rule)})" for rule in dict.fromkeys(rules)) or "none"


if __name__ == "__main__":
    main()
