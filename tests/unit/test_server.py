"""Jobs that run in forks of one process: what a job sees, how it ends, and with what."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from twin_merging.jobs.client import SERVER
from twin_merging.jobs.watch import STARTED_BY

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the server is for Linux")

CLIENT = """
import sys
sys.path.append({folder!r})
from twin_merging.jobs.client import hand_over
code = hand_over()
if code is None:
    {body}
else:
    print("handed over", code, flush=True)
    sys.exit(code)
"""
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def parent() -> Iterator[subprocess.Popen[bytes]]:
    """What stands for the Snakemake that starts the jobs."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def start(tmp_path: Path, parent: subprocess.Popen[bytes]) -> Start:
    """Start a job: a script of that name and body."""
    name = f"test-{secrets.token_hex(8)}"

    def begin(body: str, script: str = "job", **more: str) -> subprocess.Popen[str]:
        file = tmp_path / f"{script}.py"
        text = CLIENT.format(folder=str(tmp_path), body=body)
        if not file.exists() or file.read_text() != text:  # a job that began before may be reading it
            file.write_text(text)
        environment = {**os.environ, SERVER: name, STARTED_BY: str(parent.pid), **more}
        return subprocess.Popen(
            [sys.executable, str(file), "an argument"],
            env=environment,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return begin


def finished(job: subprocess.Popen[str]) -> tuple[int, list[str], str]:
    """A job's exit code, the lines that it printed, and its errors."""
    out, errors = job.communicate(timeout=60)
    return job.returncode, out.splitlines(), errors


def begun(job: subprocess.Popen[str]) -> int:
    """The process that works for a job, which prints its number first."""
    assert job.stdout is not None
    return int(job.stdout.readline())


def is_gone(process: int, seconds: float = 5) -> bool:
    """Whether a process ends in so many seconds. (It may be listed until its parent asks how it ended.)"""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


WAITING = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"


def test_a_job_runs_in_a_fork_with_the_folder_arguments_and_variables_of_its_script(
    start: Start, tmp_path: Path
) -> None:
    body = "import json, os; print(json.dumps([os.getcwd(), sys.argv[1:], os.environ['WORD'], os.getppid()]))"
    jobs = [finished(start(body, WORD=word)) for word in ("one", "two")]
    assert [code for code, _, _ in jobs] == [0, 0]
    (folder, arguments, word, server), (*_, other_word, same_server) = (json.loads(lines[0]) for _, lines, _ in jobs)
    assert (folder, arguments, word, other_word) == (str(tmp_path), ["an argument"], "one", "two")
    assert server == same_server
    assert jobs[0][1][1] == "handed over 0"


def test_what_a_job_imports_is_loaded_already_for_the_next_job_of_its_script(start: Start) -> None:
    body = "print('yaml' in sys.modules); import yaml"
    assert finished(start(body))[1][0] == "False"
    assert finished(start(body, "another"))[1][0] == "False"
    assert finished(start(body))[1][0] == "True"


def test_a_fork_changes_nothing_for_the_next_one(start: Start) -> None:
    body = "import os; print(os.environ.get('MARK'), hasattr(sys, 'mark')); os.environ['MARK'] = 'x'; sys.mark = 1"
    assert [finished(start(body))[1][0] for _ in range(2)] == ["None False"] * 2


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("pass", 0),
        ("sys.exit(3)", 3),
        ("sys.exit('a sentence')", 1),
        ("raise ValueError('x')", 1),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 128 + signal.SIGKILL),
    ],
)
def test_a_script_ends_with_the_exit_code_of_its_fork(start: Start, body: str, code: int) -> None:
    assert finished(start(body))[0] == code


def test_a_traceback_of_the_fork_reaches_the_script_s_errors(start: Start) -> None:
    assert "ValueError: what went wrong" in finished(start("raise ValueError('what went wrong')"))[2]


def test_a_killed_script_ends_its_fork_and_what_that_has_started(start: Start) -> None:
    body = f"import subprocess; child = subprocess.Popen(['sleep', '60']); print(child.pid, flush=True); {WAITING}"
    job = start(body)
    child, fork = begun(job), begun(job)
    job.kill()
    assert is_gone(fork)
    assert is_gone(child)


def test_an_interrupted_script_lets_its_fork_clean_up(start: Start, tmp_path: Path) -> None:
    body = (
        "import os, time, pathlib\n    try:\n        print(os.getpid(), flush=True); time.sleep(60)\n"
        f"    finally:\n        pathlib.Path({str(tmp_path / 'cleaned')!r}).touch()"
    )
    job = start(body)
    fork = begun(job)
    job.send_signal(signal.SIGINT)
    assert finished(job)[0] == 130
    assert is_gone(fork)
    assert (tmp_path / "cleaned").exists()


def test_the_end_of_snakemake_ends_the_server_and_its_forks(start: Start, parent: subprocess.Popen[bytes]) -> None:
    job = start(WAITING)
    fork = begun(job)
    server = int(Path(f"/proc/{fork}/stat").read_text().rpartition(")")[2].split()[1])
    parent.kill()
    parent.wait()
    assert is_gone(fork)
    assert is_gone(server)
    assert finished(job)[0] != 0


def test_the_end_of_the_server_ends_its_forks_and_is_said(start: Start) -> None:
    job = start(WAITING)
    fork = begun(job)
    server = int(Path(f"/proc/{fork}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(server, signal.SIGKILL)
    assert is_gone(fork)
    code, _, errors = finished(job)
    assert code == 1
    assert errors.endswith("error: the process that runs the jobs has ended; run again\n")


def test_jobs_of_a_server_run_side_by_side(start: Start) -> None:
    jobs = [start(WAITING) for _ in range(3)]
    forks = {begun(job) for job in jobs}
    assert len(forks) == 3
    for job in jobs:
        job.kill()


def test_a_script_works_itself_where_no_server_is_wanted_or_another_library_is_on_its_path(
    start: Start, tmp_path: Path
) -> None:
    assert finished(start("print('alone')"))[1] == ["alone", "handed over 0"]
    path = f"{os.environ.get('PYTHONPATH', '')}:{tmp_path}"
    assert finished(start("print('alone')", PYTHONPATH=path))[1] == ["alone"]
    assert finished(start("print('alone')", **{SERVER: ""}))[1] == ["alone"]
