"""What is known of a run: its jobs, what they have said, and the lines that tell it."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twin_merging.jobs.progress import duration
from twin_merging.jobs.run import PROGRESS, REPORT

SAID = re.compile(rf"^\S+ \S+ ({re.escape(PROGRESS)}|{re.escape(REPORT)}): (.*)$")
ERROR = "error: "
TOLERANCE = 0.1  # seconds by which the time of a file may lie before that of the event
FEW = 4  # running jobs that are named
SNAKEMAKES_LOG = "Snakemake's own log: the newest file in .snakemake/log"


@dataclass
class Job:
    """A job that runs. `far` is what it last said of its progress; `read` is how much of its log was looked at."""

    number: int
    rule: str
    name: str
    log: Path | None
    started: float
    far: str = ""
    read: int = 0

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Job:
        """From Snakemake's event. The name leaves the suite out: `finetune cola`."""
        values = [str(value) for key, value in record["wildcards"].items() if key != "suite"]
        log = Path(record["log"][0]) if record["log"] else None
        return cls(
            record["jobid"], record["rule_name"], " ".join([record["rule_name"], *values]), log, record["created"]
        )

    def listen(self) -> Iterator[str]:
        """The lines for the user that have come into the log. Keeps in mind what the job says of its progress."""
        for line in self._new_lines():
            if said := SAID.match(line):
                if said[1] == REPORT:
                    yield said[2]
                else:
                    self.far = said[2]

    def _new_lines(self) -> list[str]:
        try:
            if self.log is None or self.log.stat().st_mtime < self.started - TOLERANCE:
                return []  # of an earlier run
            with open(self.log, "rb") as stream:
                stream.seek(self.read)
                whole, _, _ = stream.read().rpartition(b"\n")
        except OSError:
            return []
        self.read += len(whole) + 1 if whole else 0
        return whole.decode(errors="replace").splitlines()

    def text(self) -> str:
        """The whole log; nothing where there is none of this run."""
        self.read = 0
        return "\n".join(self._new_lines())


@dataclass
class Run:
    """The jobs of one Snakemake call."""

    planned_jobs: dict[str, int] = field(default_factory=dict)
    total: int = 0
    done: int = 0
    failed: int = 0
    interrupted: bool = False  # by its user: then a job that ends has not failed
    began: float = field(default_factory=time.time)
    running: dict[int, Job] = field(default_factory=dict)
    finished: Counter[str] = field(default_factory=Counter)
    first: dict[str, float] = field(default_factory=dict)

    def plan(self, stats: Mapping[str, int], now: float) -> None:
        """stats: how many jobs of each rule, and in total."""
        self.planned_jobs = {rule: count for rule, count in stats.items() if rule != "total"}
        self.total, self.began = stats["total"], now

    def planned(self) -> str:
        return f"{jobs(self.total)} to run"

    def start(self, job: Job) -> None:
        self.running[job.number] = job
        self.first.setdefault(job.rule, job.started)

    def finish(self, number: int, now: float) -> str:
        """A job has ended well. Gives a line when it was the last of its rule."""
        job = self.running.pop(number, None)
        self.done += 1
        if job is None:
            return ""
        self.finished[job.rule] += 1
        count = self.finished[job.rule]
        if count < self.planned_jobs.get(job.rule, 0) or job.rule == "all":
            return ""
        return f"{self._age(now)}  {job.rule}: {jobs(count)} in {duration(now - self.first[job.rule])}"

    def fail(self, number: int, record: Mapping[str, Any], whole_log: bool = False) -> list[str]:
        """A job has failed. Gives what it said of the reason, and where its log lies."""
        self.failed += 1
        job = self.running.pop(number, None) or Job.of({"wildcards": {}, **record, "created": 0.0})
        text = job.text()
        sentences = [line.removeprefix(ERROR) for line in text.splitlines() if line.startswith(ERROR)]
        age = f" after {duration(record['created'] - job.started)}" if job.started else ""
        why = sentences[-1] if sentences else "it left no message in its log; was it killed, or out of memory?"
        lines = [f"{self._age(record['created'])}  failed: {job.name}{age}", f"  {why}"]
        if record.get("rule_msg"):
            lines.append(f"  {record['rule_msg']}")
        if job.log is not None:
            lines.append(f"  log: {job.log}")
        return [*lines, *(text.splitlines() if whole_log else [])]

    def reports(self) -> Iterator[str]:
        """Lines for the user that the running jobs have written."""
        for job in list(self.running.values()):
            yield from job.listen()

    def status(self, now: float | None = None) -> str:
        """`  1:35  42 of 114 done; running: finetune cola 12 s (40 of 120 steps, ...), score 1 s`"""
        now = time.time() if now is None else now
        named = [
            f"{job.name} {duration(now - job.started)}" + (f" ({job.far})" if job.far else "")
            for job in list(self.running.values())[:FEW]
        ]
        more = len(self.running) - len(named)
        running = ", ".join([*named, *([f"{more} more"] if more else [])])
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self._age(now)}  {self.done} of {self.total} done{failed}" + (
            f"; running: {running}" if running else ""
        )

    def ending(self) -> str:
        took = duration(time.time() - self.began)
        if self.failed:
            return f"{jobs(self.failed)} failed, {self.done} of {self.total} done in {took}; {SNAKEMAKES_LOG}"
        if self.done < self.total:
            return f"stopped: {self.done} of {self.total} jobs done in {took}; run it again to go on; {SNAKEMAKES_LOG}"
        return f"all {jobs(self.total)} done in {took}"

    def _age(self, now: float) -> str:
        """How long the run takes already, in a column."""
        seconds = max(0, round(now - self.began))
        minutes, rest = divmod(seconds, 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:4d}:{rest:02d}"


def jobs(count: int) -> str:
    return f"{count} job" if count == 1 else f"{count} jobs"
