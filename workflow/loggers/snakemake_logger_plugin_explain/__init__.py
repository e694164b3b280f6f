"""A logger for Snakemake's dry run that says in words which jobs would run, and why: `make explain SUITE=quickstart`.

The reasons are Snakemake's own; here they are only worded, and changed settings compared key by key.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from logging import WARNING, LogRecord
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

WORKFLOW = Path(__file__).parents[2]
MISSING = "Missing output files: "
ABSENT = object()
REASONS = {
    "Forced execution": "forced",
    "Rules with a run or shell declaration but no output are always executed.": "runs whenever it is asked for",
    MISSING: "not there: {}",
    "Incomplete output files: ": "was interrupted: {}",
    "Updated input files: ": "input changed: {}",
    "Input files updated by another job: ": "after {}",
    "Set of input files has changed since last execution": "other input files than before",
    "Code has changed since last execution": "script changed",
    "Params have changed since last execution: ": "",
    "Software environment definition has changed since last execution": "software environment changed",
}
PARTS = re.compile(rf"(?:^|; )({'|'.join(map(re.escape, REASONS))})")


class LogHandler(LogHandlerBase):
    """Collects the planned jobs, and prints them by stage when Snakemake ends."""

    writes_to_stream = True
    writes_to_file = has_filter = has_formatter = needs_rulegraph = False

    def __post_init__(self) -> None:
        self.jobs: list[Mapping[str, Any]] = []
        self.planned = False

    def emit(self, record: LogRecord) -> None:
        if getattr(record, "event", None) == LogEvent.JOB_INFO:
            self.jobs.append(vars(record))
        elif record.levelno >= WARNING:
            print(record.getMessage(), file=sys.stderr, flush=True)
        self.planned |= bool(self.jobs) or record.getMessage().startswith("Nothing to be done")

    def close(self) -> None:
        if self.planned:
            print("\n".join(explained(self.jobs)), flush=True)
        self.planned = False
        super().close()


def explained(jobs: list[Mapping[str, Any]]) -> Iterator[str]:
    """A line a job, in the order of the stages."""
    order = stages()
    jobs = sorted(
        (job for job in jobs if job["rule_name"] != "all"), key=lambda job: (order[job["rule_name"]], name(job))
    )
    makers = {output: name(job) for job in jobs for output in job["output"]}
    for job in jobs:
        yield f"{name(job)}: {'; '.join(dict.fromkeys(reasons(job['reason'], makers))) or 'asked for'}"
    yield f"{len(jobs)} jobs would run" if jobs else "nothing to do"


def stages() -> dict[str, int]:
    """Each rule's place in the workflow."""
    files = re.findall(r'^include: "(.*)"', (WORKFLOW / "Snakefile").read_text(), flags=re.M)
    text = "\n".join((WORKFLOW / file).read_text() for file in files)
    rules = re.findall(r"^(?:rule|use rule \w+ as) (\w+)", text, flags=re.M)
    return {rule: number for number, rule in enumerate(rules)}


def name(job: Mapping[str, Any]) -> str:
    """`compress task-arithmetic/cola`; the table has its suite's name."""
    wildcards = {key: value for key, value in job["wildcards"].items() if key != "suite"}
    return f"{job['rule_name']} {'/'.join(wildcards.values())}".strip()


def reasons(text: str, makers: Mapping[str, str]) -> Iterator[str]:
    """Snakemake's reasons in words. `makers`: the job that makes a file."""
    parts = dict(_parts(text))
    for head, rest in parts.items():
        if head.startswith("Params"):
            yield from changes(rest)
        elif not head.startswith("Input files"):
            yield REASONS[head].format(_few(rest.split(", ")))
        elif MISSING not in parts:
            yield REASONS[head].format(_few([makers.get(file, file) for file in rest.split(", ")]))


def _parts(text: str) -> Iterator[tuple[str, str]]:
    found = list(PARTS.finditer(text))
    for match, after in zip(found, [*found[1:], None], strict=True):
        yield match[1], text[match.end() : after.start() if after else None]


def _few(names: list[str]) -> str:
    """Some of the names, each once."""
    names = sorted(set(names))
    return ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:3])} and {len(names) - 3} more"


def changes(text: str) -> Iterator[str]:
    """What of a rule's `settings` and `code` is not as it was."""
    old, new = _before_and_now(text)
    if any(isinstance(value, str) for value in new):
        yield "code changed"
    settings = [[value for value in values if isinstance(value, dict)] for values in (old, new)]
    if all(settings):
        yield f"settings changed ({'; '.join(differences(settings[0][0], settings[1][0]))})"
    elif not any(isinstance(value, str) for value in new):
        yield "settings changed"


def _before_and_now(text: str) -> tuple[list[Any], list[Any]]:
    """The values that Snakemake prints as `before: 'x',{...} now: 'y',{...}`."""
    text = text.partition("before: ")[2].replace("<nothing exclusive>", "").strip()
    for match in re.finditer(r" ?now: ?", text):
        try:
            old, new = (list(ast.literal_eval(f"[{part}]")) for part in (text[: match.start()], text[match.end() :]))
        except (SyntaxError, ValueError):
            continue  # the words stand inside a value
        return old, new
    return [], []


def differences(old: Any, new: Any, at: str = "") -> Iterator[str]:
    """`router.epochs: 50 -> 40` for each leaf that differs."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*old, *new]):
            yield from differences(old.get(key, ABSENT), new.get(key, ABSENT), f"{at}.{key}".lstrip("."))
        if list(old) != list(new) and old == new:
            yield f"{at}: in another order".lstrip(": ")
    elif old != new:
        yield f"{at}: {' -> '.join('none' if value is ABSENT else str(value) for value in (old, new))}"
