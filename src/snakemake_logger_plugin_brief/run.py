"""What is known of a run: its jobs, what they have said, and the lines that tell it."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twin_merging.jobs.progress import duration
from twin_merging.jobs.run import PROGRESS, REPORT

SAID = re.compile(rf"^\S+ \S+ ({re.escape(PROGRESS)}|{re.escape(REPORT)}): (.*)$")
# The log of a submission lies in a folder named after its jobs: rule_predict/merged, group_scores_intervals_score.
SUBMITTED = re.compile(
    r"Job \S+ has been submitted with SLURM jobid (?P<number>\S+) \(log: .*?/(?P<name>(?:rule|group)_.*)/"
)
AGAIN = re.compile(r"Trying to restart job \S+$")
ERROR = "error: "
TOLERANCE = 0.1  # seconds by which the time of a file may lie before that of the event
FEW = 4  # running jobs that are named
KILLED = "was it killed, or out of memory?"
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
    failing: set[int] = field(default_factory=set)  # jobs that failed and were not tried again
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
        return f"{count_of(self.total)} to run"

    @property
    def failed(self) -> int:
        return len(self.failing)

    def start(self, job: Job) -> None:
        self.failing.discard(job.number)
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
        return f"{self._age(now)}  {job.rule}: {count_of(count)} in {duration(now - self.first[job.rule])}"

    def fail(self, number: int, record: Mapping[str, Any], whole_log: bool = False) -> list[str]:
        """A job has failed. Gives what it said of the reason, and where its log lies."""
        self.failing.add(number)
        job = self.running.pop(number, None) or Job.of({"wildcards": {}, **record, "created": 0.0})
        text, now = job.text(), record["created"]
        sentences = said_wrong(text)
        why = sentences[-1] if sentences else f"it left no message in its log; {KILLED}"
        lines = [f"{self._age(now)}  failed: {job.name}{self._after(job, now)}", f"  {why}"]
        if record.get("rule_msg"):
            lines.append(f"  {record['rule_msg']}")
        if job.log is not None:
            lines.append(f"  log: {job.log}")
        return [*lines, *(text.splitlines() if whole_log else [])]

    def fail_together(self, records: Sequence[Mapping[str, Any]], now: float, logs: Sequence[str]) -> list[str]:
        """Jobs that a scheduler got as one have failed as one. Gives what those said that say why, and how many others
        have to run again; logs: the scheduler's own."""
        jobs = {record["jobid"]: self.running.get(record["jobid"]) for record in records}
        spoke = [record for record in records if (job := jobs[record["jobid"]]) and said_wrong(job.text())]
        lines = [line for record in spoke for line in self.fail(record["jobid"], {**record, "created": now})]
        others = [job for number, job in jobs.items() if job and self.running.pop(number, None)]
        if spoke:
            lines += [f"  {count_of(len(others))} of the same submission to run again"] if others else []
            return lines
        self.failing.update(jobs)
        head = f"{self._age(now)}  failed: {few([job.name for job in others])}" + (
            self._after(others[0], now) if others else ""
        )
        return [head, f"  no job left a message in its log; {KILLED}", *(f"  log: {log}" for log in logs)]

    def _after(self, job: Job, now: float) -> str:
        return f" after {duration(now - job.started)}" if job.started else ""

    def in_short(self, text: str) -> str:
        """What Snakemake or an executor says of a submission, with the names of jobs in place of their numbers."""
        if submitted := SUBMITTED.match(text):
            return f"{self._age(time.time())}  Slurm job {submitted['number']}: {submitted['name']}"
        return "  tried again, with more memory and time" if AGAIN.match(text) else text

    def reports(self) -> Iterator[str]:
        """Lines for the user that the running jobs have written."""
        for job in list(self.running.values()):
            yield from job.listen()

    def status(self, now: float | None = None) -> str:
        """`  1:35  42 of 114 done; running: finetune cola 12 s (40 of 120 steps, ...), score 1 s`"""
        now = time.time() if now is None else now
        running = few(
            [
                f"{job.name} {duration(now - job.started)}" + (f" ({job.far})" if job.far else "")
                for job in self.running.values()
            ]
        )
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self._age(now)}  {self.done} of {self.total} done{failed}" + (
            f"; running: {running}" if running else ""
        )

    def ending(self) -> str:
        took = duration(time.time() - self.began)
        if self.failed:
            return f"{count_of(self.failed)} failed, {self.done} of {self.total} done in {took}; {SNAKEMAKES_LOG}"
        if self.done < self.total:
            return f"stopped: {self.done} of {self.total} jobs done in {took}; run it again to go on; {SNAKEMAKES_LOG}"
        return f"all {count_of(self.total)} done in {took}"

    def _age(self, now: float) -> str:
        """How long the run takes already, in a column."""
        seconds = max(0, round(now - self.began))
        minutes, rest = divmod(seconds, 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:4d}:{rest:02d}"


def count_of(number: int) -> str:
    return f"{number} job" if number == 1 else f"{number} jobs"


def few(names: Sequence[str]) -> str:
    """Some of the names, and how many more there are."""
    more = len(names) - FEW
    return ", ".join([*names[:FEW], *([f"{more} more"] if more > 0 else [])])


def said_wrong(text: str) -> list[str]:
    """The sentences of a log that say what is wrong."""
    return [line.removeprefix(ERROR) for line in text.splitlines() if line.startswith(ERROR)]
