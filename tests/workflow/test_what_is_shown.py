"""What a run prints with the profile's logger, on a terminal and without one.

The jobs are those of a small workflow here, which write into their logs what the library's jobs write.
"""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.workflow.running import command, variables

pytestmark = pytest.mark.workflow

WORKFLOW = """
configfile: "config.yaml"

rule all:
    input: "last"

rule good:
    output: "{name}.good"
    log: "{name}.log"
    shell: "echo '2026-01-01 00:00:00,0 twin_merging.report: {wildcards.name}: fetched' > {log};"
        "echo '2026-01-01 00:00:00,0 twin_merging.progress: 1 of 2 steps' >> {log};"
        "sleep {config[seconds]}; touch {output}"

rule last:
    input: "one.good", "two.good"
    output: "last"
    log: "last.log"
    shell: "echo 'error: table.csv: {config[wrong]}; make it again' > {log}; {config[last]} {output}"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "Snakefile").write_text(WORKFLOW)
    (tmp_path / "config.yaml").write_text("seconds: 0.1\nlast: touch\nwrong: it is empty\n")
    return tmp_path


def run(folder: Path, *arguments: str) -> tuple[int, list[str]]:
    """Exit code and lines on the two outputs, which are no terminals."""
    found = subprocess.run(
        command("--logger", "brief", *arguments), cwd=folder, env=variables(folder), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    return found.returncode, (found.stdout + found.stderr).splitlines()


def without_times(lines: list[str]) -> list[str]:
    return [re.sub(r"^ +\d+:\d\d  |( in| after) [\d:]+( s)?$", r"\1", line) for line in lines]


def test_a_run_that_ends_well(folder: Path) -> None:
    code, lines = run(folder)
    assert code == 0
    assert sorted(without_times(lines)[1:3]) == ["one: fetched", "two: fetched"]
    assert without_times(lines[:1] + lines[3:]) == [
        "4 jobs to run",
        "good: 2 jobs in",
        "last: 1 job in",
        "all 4 jobs done in",
    ]
    assert run(folder)[1] == ["Nothing to be done (all requested files are present and up to date)."]


def test_what_is_running_is_written_every_ten_seconds(folder: Path) -> None:
    _, lines = run(folder, "--config", "seconds=11", "--", "one.good")
    (line,) = [line for line in lines if "running" in line]
    assert re.fullmatch(r"   0:\d\d  0 of 1 done; running: good one (9|10|11) s \(1 of 2 steps\)", line)


def test_a_failed_job_is_told_by_its_own_sentence(folder: Path) -> None:
    code, lines = run(folder, "--config", "last=false")
    assert code == 1
    at = next(number for number, line in enumerate(lines) if "failed" in line)
    assert without_times(lines[at:])[:3] == [
        "failed: last after",
        "  table.csv: it is empty; make it again",
        "  log: last.log",
    ]
    assert lines[at + 3].startswith("1 job failed, 2 of 4 done in ")
    assert len(lines) == at + 4


def test_quiet_leaves_the_errors(folder: Path) -> None:
    code, lines = run(folder, "--quiet", "all", "--config", "last=false")
    assert code == 1
    assert "  table.csv: it is empty; make it again" in lines
    assert not [line for line in lines if "jobs to run" in line or "good" in line]


def test_errors_before_any_job_and_dry_runs_are_snakemakes(folder: Path) -> None:
    code, lines = run(folder, "--", "nothing")
    assert code == 1
    assert lines[:2] == ["MissingRuleException:", lines[1]]
    assert "nothing" in lines[1]
    code, lines = run(folder, "--dry-run")
    assert code == 0
    assert "rule good:" in lines
    assert re.search(r"^total +4$", "\n".join(lines), flags=re.M)


def test_a_terminal_shows_what_is_running_in_its_last_line(folder: Path) -> None:
    text = on_terminal(folder, "--config", "seconds=3", "--", "one.good")
    assert re.search(r"\r\x1b\[K   0:0\d  0 of 1 done; running: good one [123] s \(1 of 2 steps\)", text)
    assert re.search(r"\r\x1b\[K   0:0\d  good: 1 job in \d s\r\n", text)
    assert re.search(r"\r\x1b\[Kall 1 job done in \d s\r\n$", text)


def test_ctrl_c_says_what_is_done_and_how_to_go_on(folder: Path) -> None:
    started = subprocess.Popen(
        command("--logger", "brief", "--config", "seconds=60", "--", "one.good"), cwd=folder, env=variables(folder),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    until = time.monotonic() + 60
    while not (folder / "one.log").exists() and time.monotonic() < until:
        time.sleep(0.1)
    os.killpg(started.pid, signal.SIGINT)
    text, _ = started.communicate(timeout=60)
    assert started.returncode != 0
    assert "stopped: 0 of 1 jobs done in " in text
    assert "run it again to go on" in text
    assert "failed" not in text


def on_terminal(folder: Path, *arguments: str) -> str:
    """All that a run writes to a terminal."""
    ours, theirs = pty.openpty()
    environment = {**variables(folder), "TERM": "xterm", "COLUMNS": "100"}
    started = subprocess.Popen(
        command("--logger", "brief", *arguments), cwd=folder, env=environment, stdin=theirs, stdout=theirs,
        stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    parts = []
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # the other side is closed
            break
        if not part:
            break
        parts.append(part)
    os.close(ours)
    assert started.wait() == 0
    return b"".join(parts).decode()
