"""GPUs that a run hands out to its jobs: names of devices that no machine has, and real processes."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from twin_merging.errors import UserError
from twin_merging.jobs import devices, machine
from twin_merging.jobs.devices import VISIBLE, asked, take, visible

JOB = """
import os, sys, time
from types import SimpleNamespace
from twin_merging.jobs.devices import take

take(SimpleNamespace(resources={"gpu": int(sys.argv[1])}, config={"gpus": 1}))
if os.fork() == 0:  # a process that the job leaves behind
    os.close(1)
    time.sleep(60)
print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
sys.stdin.read()
"""
SECONDS = 0.7  # until a job is taken to wait
Start = Callable[..., "subprocess.Popen[str]"]


def a_job(gpu: Any = 0, gpus: Any = 0) -> Any:
    return SimpleNamespace(resources={"gpu": gpu}, config={"gpus": gpus})


def four() -> list[str]:
    """Four devices, which no other test knows."""
    return [f"GPU-{uuid.uuid4()}" for _ in range(4)]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a job that asks for so many of the devices, in a process group of its own."""
    begun: list[subprocess.Popen[str]] = []

    def one(known: list[str], gpu: int = 1) -> subprocess.Popen[str]:
        begun.append(
            subprocess.Popen(
                [sys.executable, "-c", JOB, str(gpu)],
                env={**os.environ, VISIBLE: ",".join(known)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )
        return begun[-1]

    yield one
    for job in begun:
        os.killpg(job.pid, signal.SIGKILL)
        job.wait()


def said(job: subprocess.Popen[str]) -> str:
    assert job.stdout is not None
    return job.stdout.readline().strip()


def waits(job: subprocess.Popen[str]) -> bool:
    """Whether a job has got nothing after a while."""
    assert job.stdout is not None
    return not select.select([job.stdout], [], [], SECONDS)[0]


def test_four_jobs_have_a_gpu_each_and_a_killed_one_gives_its_own_back(start: Start) -> None:
    known = four()
    jobs = [start(known) for _ in known]
    taken = [said(job) for job in jobs]
    assert sorted(taken) == sorted(known)
    fifth = start(known)
    assert waits(fifth)
    os.kill(jobs[2].pid, signal.SIGKILL)  # the process that it forked lives on
    assert said(fifth) == taken[2]
    sixth = start(known)
    assert waits(sixth)
    assert jobs[0].stdin is not None
    jobs[0].stdin.close()
    assert said(sixth) == taken[0]


def test_a_job_of_several_gpus_waits_until_it_can_have_all_at_once(start: Start) -> None:
    known = four()[:3]
    first = start(known, 2)
    assert said(first) == ",".join(known[:2])
    second = start(known, 2)
    assert waits(second)
    third = start(known, 1)
    assert said(third) == known[2], "the one that waits has none"
    os.kill(first.pid, signal.SIGKILL)
    assert said(second) == ",".join(known[:2])


def test_jobs_of_a_scheduler_call_other_gpus_by_the_same_numbers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(devices, "PLACE", tmp_path)
    for job in ("1", "2"):
        monkeypatch.setenv("SLURM_JOB_ID", job)
        monkeypatch.setenv(VISIBLE, "0")
        take(a_job(1, 1))
        assert os.environ[VISIBLE] == "0"
    (folder,) = tmp_path.iterdir()
    assert sorted(file.name for file in folder.iterdir()) == ["SLURM_JOB_ID-1-0", "SLURM_JOB_ID-2-0", "taking"]


@pytest.mark.parametrize(
    ("job", "count"),
    [
        (a_job(), None),
        (a_job(0, 1), 0),
        (a_job(2, 1), 2),
        (a_job(1), 1),
        (a_job(1, "1"), 1),
        (SimpleNamespace(resources={}, config={}), None),
        (SimpleNamespace(), None),
    ],
)
def test_how_many_gpus_a_job_is_given(job: Any, count: int | None) -> None:
    assert asked(job) == count


def test_where_none_are_handed_out_a_job_sees_what_it_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VISIBLE, raising=False)
    take(a_job())
    assert VISIBLE not in os.environ
    monkeypatch.setenv(VISIBLE, "0,1")
    take(a_job())
    assert os.environ[VISIBLE] == "0,1"


def test_a_job_that_asks_for_none_sees_none_where_they_are_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "0,1")
    take(a_job(0, 1))
    assert os.environ[VISIBLE] == ""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0,1", ["0", "1"]),
        (" 2 , 0", ["2", "0"]),
        ("GPU-8932f937-d72c,MIG-GPU-5/1/0,MIG-41b3", ["GPU-8932f937-d72c", "MIG-GPU-5/1/0", "MIG-41b3"]),
        ("", []),
        ("-1", []),
        ("0,-1,1", ["0"]),
        ("1,1", ["1"]),
    ],
)
def test_visible_devices_keep_their_names(monkeypatch: pytest.MonkeyPatch, text: str, found: list[str]) -> None:
    monkeypatch.setenv(VISIBLE, text)
    assert visible() == found


def test_devices_of_the_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(VISIBLE, raising=False)
    monkeypatch.setattr(devices, "DEVICES", tmp_path / "dev")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert visible() is None
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: One (UUID: GPU-1)'\necho '  MIG 1g'\necho 'GPU 1: One (UUID: GPU-2)'\n")
    tool.chmod(0o700)
    assert visible() == ["0", "1"]
    (tmp_path / "dev").mkdir()
    for name in ("nvidia0", "nvidia1", "nvidia2", "nvidiactl", "nvidia-uvm"):
        (tmp_path / "dev" / name).touch()
    assert visible() == ["0", "1", "2"]


def test_where_no_gpu_can_be_found_a_job_works_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv(VISIBLE, raising=False)
    monkeypatch.setattr(devices, "DEVICES", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    take(a_job(1, 1))
    assert VISIBLE not in os.environ
    assert "none was found on this machine" in caplog.text


def test_fewer_gpus_than_a_job_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "3")
    with pytest.raises(UserError, match=r"asks for 2 GPUs, but may see 1 \(CUDA_VISIBLE_DEVICES is '3'\)"):
        take(a_job(2, 2))


def test_a_folder_of_locks_that_leads_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(devices, "PLACE", tmp_path)
    monkeypatch.setenv(VISIBLE, "3")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"twin-merging-gpus-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is not yours"):
        take(a_job(1, 1))


def test_what_a_store_knows_of_gpus_is_their_kind_and_not_their_number(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A job finds what another has made on a GPU of the same kind, or on none where it is given none."""
    kinds = ["A100", "A100"]
    for number, kind in enumerate(kinds):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "information").write_text(f"Model: {kind}\nIRQ: {number}\n")
    monkeypatch.setattr(machine, "GPUS", tmp_path)
    monkeypatch.setenv(VISIBLE, "1")
    assert machine.rounding()["variables"][VISIBLE] == "1"
    found = machine.rounding(1)
    assert (found["gpus"], VISIBLE in found["variables"]) == (["A100"], False)
    assert machine.rounding(2)["gpus"] == kinds
    assert machine.rounding(0)["gpus"] == []
    (tmp_path / "1" / "information").write_text("Model: T4\n")
    assert machine.rounding(1)["gpus"] == ["A100", "T4", "1 of them"]


def test_what_the_server_loads_asks_for_no_gpu() -> None:
    """A process in which CUDA is started cannot be forked; and what it saw would be what its forks see."""
    root = Path(__file__).parents[2]
    code = f"""
import sys
from importlib import import_module
from pathlib import Path
import torch
from twin_merging.jobs.server import modules_named

calls = []
for where, name in ((torch.cuda, "is_available"), (torch.cuda, "init"), (torch.cuda, "_lazy_init"),
                    (torch.cuda, "device_count"), (torch.cuda, "current_device"), (torch.cuda, "get_device_name")):
    setattr(where, name, lambda *_, name=name: calls.append(name) or 0)
for script in Path({str(root / "workflow" / "scripts")!r}).glob("*.py"):
    if script.stem not in ("lm_eval", "lm_eval_table"):
        for module in modules_named(script):
            import_module(module)
assert "twin_merging.prediction.predict" in sys.modules
sys.exit(", ".join(calls) or None)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
