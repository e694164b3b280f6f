"""The lines that the logger plugin `brief` makes of a run, and where they go."""

import io
import os
from pathlib import Path
from typing import Any

import pytest

from snakemake_logger_plugin_brief.run import Job, Run
from snakemake_logger_plugin_brief.screen import Screen


def event(number: int, rule: str, log: Path | None = None, at: float = 100.0, **wildcards: str) -> dict[str, Any]:
    """Snakemake's event of a job that starts."""
    logs = [] if log is None else [str(log)]
    return {"jobid": number, "rule_name": rule, "wildcards": wildcards, "log": logs, "created": at}


def planned(at: float = 100.0) -> Run:
    run = Run()
    run.plan({"finetune": 2, "score": 1, "all": 1, "total": 4}, at)
    return run


def write(log: Path, *lines: str, at: float = 101.0) -> Path:
    with open(log, "a") as stream:
        stream.writelines(f"{line}\n" for line in lines)
    os.utime(log, (at, at))
    return log


def test_a_rule_has_one_line_when_all_its_jobs_are_done() -> None:
    run = planned()
    run.start(Job.of(event(1, "finetune", suite="mine", task="cola")))
    run.start(Job.of(event(2, "finetune", at=103.0, suite="mine", task="sst2")))
    assert run.finish(1, 170.0) == ""
    assert run.status(171.0) == "   1:11  1 of 4 done; running: finetune sst2 1:08"
    assert run.finish(2, 175.0) == "   1:15  finetune: 2 jobs in 1:15"
    assert run.status(175.0) == "   1:15  2 of 4 done"


def test_many_running_jobs_are_counted() -> None:
    run = planned()
    for number in range(7):
        run.start(Job.of(event(number, "finetune", task=f"t{number}")))
    assert run.status(101.0).endswith("finetune t3 1 s, 3 more")


def test_progress_and_reports_come_from_the_log_of_the_running_job(tmp_path: Path) -> None:
    log = write(tmp_path / "log", "2026-01-01 10:00:00,000 twin_merging.progress: 9 of 9 steps", at=50.0)
    run = planned()
    run.start(Job.of(event(1, "finetune", log, task="cola")))
    assert list(run.reports()) == []  # that log is an earlier run's
    assert run.status(101.0).endswith("finetune cola 1 s")
    log.unlink()
    write(
        log,
        "2026-01-01 10:00:00,000 twin_merging.report: repo/x: 3.0 MB to download",
        "2026-01-01 10:00:01,000 twin_merging.progress: 3 of 9 steps",
        "2026-01-01 10:00:01,000 other: 4 of 9",
    )
    assert list(run.reports()) == ["repo/x: 3.0 MB to download"]
    assert list(run.reports()) == []
    assert run.status(101.0).endswith("finetune cola 1 s (3 of 9 steps)")
    with open(log, "a") as stream:
        stream.write("2026-01-01 10:00:02,000 twin_merging.progress: 5 of")
    assert list(run.reports()) == []
    write(log, " 9 steps")
    assert list(run.reports()) == []
    assert run.status(101.0).endswith("(5 of 9 steps)")


def submitted(*logs: Path) -> tuple[Run, list[dict[str, Any]]]:
    """A run whose jobs went to a scheduler as one, and the events of their failure."""
    run = planned()
    for number, log in enumerate(logs, start=1):
        run.start(Job.of(event(number, "finetune", log, task=f"t{number}")))
    return run, [{**event(number, "finetune", log), "rule_msg": None} for number, log in enumerate(logs, start=1)]


def test_of_jobs_that_failed_as_one_those_are_told_that_say_why(tmp_path: Path) -> None:
    run, failed = submitted(write(tmp_path / "1", "done"), write(tmp_path / "2", "error: no column"), tmp_path / "3")
    assert run.fail_together(failed, 112.0, ["slurm.log"]) == [
        "   0:12  failed: finetune t2 after 12 s",
        "  no column",
        f"  log: {tmp_path / '2'}",
        "  2 jobs of the same submission to run again",
    ]
    assert run.status(113.0) == "   0:13  0 of 4 done, 1 failed"


def test_jobs_that_failed_as_one_and_say_nothing_are_named_with_the_schedulers_log(tmp_path: Path) -> None:
    run, failed = submitted(*(tmp_path / str(number) for number in range(6)))
    assert run.fail_together(failed, 112.0, ["slurm.log"]) == [
        "   0:12  failed: finetune t1, finetune t2, finetune t3, finetune t4, 2 more after 12 s",
        "  no job left a message in its log; was it killed, or out of memory?",
        "  log: slurm.log",
    ]


def test_a_job_that_is_tried_again_has_not_failed(tmp_path: Path) -> None:
    run, failed = submitted(tmp_path / "1")
    run.fail_together(failed, 112.0, [])
    assert "1 failed" in run.status(113.0)
    run.start(Job.of(event(1, "finetune", at=114.0, task="t1")))
    assert "failed" not in run.status(115.0)


def test_a_submission_is_told_by_its_jobs() -> None:
    run = planned()
    log = "/a folder/.snakemake/slurm_logs/group_answers_assemble_predict/17.log"
    said = run.in_short(f"Job 6f22be4d-b277 has been submitted with SLURM jobid 17 (log: {log}).")
    assert said.endswith("  Slurm job 17: group_answers_assemble_predict")
    said = run.in_short("Job 3 has been submitted with SLURM jobid 18 (log: logs/rule_finetune/mine_cola/18.log).")
    assert said.endswith("  Slurm job 18: rule_finetune/mine_cola")
    assert run.in_short("Trying to restart job 6f22be4d-b277.") == "  tried again, with more memory and time"
    assert run.in_short("Something else.") == "Something else."


def test_a_failed_job_is_told_with_its_last_sentence_and_its_log(tmp_path: Path) -> None:
    log = write(tmp_path / "log", "Traceback ...", "error: first", "error: data/x.csv: no column 'label'; add it")
    run = planned()
    run.start(Job.of(event(1, "finetune", log, task="cola")))
    failed = {**event(1, "finetune", log, at=112.0), "wildcards": {}, "rule_msg": None}
    assert run.fail(1, failed) == [
        "   0:12  failed: finetune cola after 12 s",
        "  data/x.csv: no column 'label'; add it",
        f"  log: {log}",
    ]
    assert run.status(112.0) == "   0:12  0 of 4 done, 1 failed"
    assert run.ending().startswith("1 job failed, 0 of 4 done in ")


def test_a_job_that_was_killed_left_no_sentence(tmp_path: Path) -> None:
    run = planned()
    run.start(Job.of(event(1, "finetune", tmp_path / "none", task="cola")))
    lines = run.fail(1, {**event(1, "finetune", at=101.0), "rule_msg": "SLURM-job '7' failed"})
    assert lines[1:3] == ["  it left no message in its log; was it killed, or out of memory?", "  SLURM-job '7' failed"]


def test_with_show_failed_logs_the_whole_log_follows(tmp_path: Path) -> None:
    log = write(tmp_path / "log", "a line", "error: wrong")
    run = planned()
    run.start(Job.of(event(1, "finetune", log, task="cola")))
    assert run.fail(1, event(1, "finetune", log, at=101.0), whole_log=True)[-2:] == ["a line", "error: wrong"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_without_a_terminal_what_is_running_is_written_after_ten_seconds_of_silence() -> None:
    stream, clock = io.StringIO(), Clock()
    screen = Screen(stream, plain=False, live=True, clock=clock)
    for second in range(25):
        clock.now = float(second)
        screen.status(f"at {second}")
        if second == 4:
            screen.line("a line")
    screen.clear()
    assert stream.getvalue() == "a line\nat 13\nat 22\n"


def test_a_terminals_last_line_is_written_over_and_cut_to_the_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "11")
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    screen = Screen(stream, plain=False, live=True)
    screen.status("running: much")
    screen.line("a line that stays")
    screen.line("wrong", urgent=True)
    screen.clear()
    cleared = "\r\x1b[K"
    assert stream.getvalue() == (
        f"{cleared}running: m{cleared}a line that stays\nrunning: m{cleared}\x1b[31mwrong\x1b[0m\nrunning: m{cleared}"
    )


@pytest.mark.parametrize(("plain", "term"), [(True, "xterm"), (False, "dumb")])
def test_a_terminal_that_takes_no_control_characters_gets_none(
    plain: bool, term: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", term)
    stream = Terminal()
    screen = Screen(stream, plain=plain, live=True)
    screen.status("running")
    screen.line("wrong", urgent=True)
    assert stream.getvalue() == "wrong\n"
