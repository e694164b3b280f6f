"""Whatever befalls a run, it says so, and one more call completes it with the bytes of an undisturbed run."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.workflow.faulty import copied, go_on, left_over, start
from tests.workflow.running import hashes_of, snakemake

pytestmark = pytest.mark.workflow

SUITE, STAGE = "made", "compress"


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    return copied(finished, tmp_path / "run")


@pytest.fixture
def whole(finished: Path) -> Callable[[Path], None]:
    """Check that a folder holds the bytes of an undisturbed run, and nothing else."""

    def check(folder: Path) -> None:
        assert hashes_of(folder / "results") == hashes_of(finished / "results")
        assert left_over(folder) == []

    return check


def errors(text: str) -> list[str]:
    """Sentences for the user."""
    return [line for line in text.splitlines() if line.startswith("error: ")]


@pytest.mark.parametrize("kind", ["group", "main", "job"])
def test_a_kill_loses_nothing(folder: Path, whole: Callable[[Path], None], kind: str) -> None:
    run = start(folder, SUITE, "--forcerun", STAGE)
    assert run.wait_for(STAGE)
    hit = None
    while hit is None and run.process.poll() is None:
        hit = run.hit(kind, script=STAGE)
    assert hit is not None, run.text
    assert run.end() != 0
    again = go_on(folder, SUITE, unlock=kind != "job")
    assert again.returncode == 0, again.stderr
    whole(folder)


def test_a_kill_of_snakemake_ends_its_jobs(folder: Path) -> None:
    run = start(folder, SUITE, "--forcerun", "predict")
    assert run.wait_for("predict")
    jobs: dict[int, str] = {}
    while not jobs and run.process.poll() is None:
        jobs = run.jobs()
    run.hit("main")
    run.end()
    deadline = subprocess.run(
        ["timeout", "20", "tail", *(f"--pid={job}" for job in jobs), "-f", "/dev/null"], check=False
    )
    assert deadline.returncode == 0, "a job outlived its Snakemake"


def test_control_c_loses_nothing(folder: Path, whole: Callable[[Path], None]) -> None:
    run = start(folder, SUITE, "--forcerun", STAGE)
    assert run.wait_for(STAGE)
    run.hit("group", signal.SIGINT)
    assert run.end() != 0
    again = go_on(folder, SUITE, unlock=False)
    assert again.returncode == 0, again.stderr
    whole(folder)


def test_a_second_run_is_refused_while_the_first_works(folder: Path, whole: Callable[[Path], None]) -> None:
    run = start(folder, SUITE, "--forcerun", STAGE)
    assert run.wait_for(STAGE)
    second = snakemake(folder, "--forcerun", STAGE, "--", f"results/tables/{SUITE}.csv")
    assert second.returncode != 0
    assert "cannot be locked" in second.stderr
    assert run.end() == 0, run.text
    whole(folder)


def test_a_job_out_of_memory_loses_nothing(folder: Path, whole: Callable[[Path], None]) -> None:
    """Address space for Snakemake, but not for torch."""
    limit = 700 * 2**20
    run = start(
        folder, SUITE, "--forcerun", STAGE, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    )
    assert run.end() != 0
    assert "error: " in run.text or "Killed" in run.text, run.text
    again = go_on(folder, SUITE, unlock=False)
    assert again.returncode == 0, again.stderr
    whole(folder)


@pytest.fixture
def small(finished: Path, tmp_path: Path) -> Iterator[Path]:
    """A working folder on a file system of its own, as large as what lies on it."""
    place = tmp_path / "small"
    place.mkdir()
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", str(place)], check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only root may mount a file system")
    try:
        yield copied(finished, place / "run")
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder.parent)], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="tmpfs is Linux's")
@pytest.mark.parametrize("room", [0, 24, 96])
def test_a_full_disk_is_named_and_loses_nothing(small: Path, whole: Callable[[Path], None], room: int) -> None:
    """`room`: kilobytes that are free when the merge begins."""
    shutil.rmtree(small / "results/made/models/merged")
    used = shutil.disk_usage(small).used
    remount(small, f"size={used + room * 1024}")
    run = snakemake(small, "--", "results/made/models/merged/config.json", "results/tables/made.csv")
    assert run.returncode != 0
    assert "No space left on device" in run.stderr or any("no space is left" in line for line in errors(run.stderr))
    remount(small, "size=256m")
    again = go_on(small, SUITE)
    assert again.returncode == 0, again.stderr
    whole(small)


@pytest.mark.skipif(sys.platform != "linux", reason="tmpfs is Linux's")
def test_a_read_only_folder_is_named_and_loses_nothing(small: Path, whole: Callable[[Path], None]) -> None:
    remount(small, "ro")
    run = snakemake(small, "--forcerun", STAGE, "--", f"results/tables/{SUITE}.csv")
    assert run.returncode != 0
    assert "Read-only file system" in run.stderr
    remount(small, "rw")
    again = snakemake(small, "--forcerun", STAGE, "--", f"results/tables/{SUITE}.csv")
    assert again.returncode == 0, again.stderr
    whole(small)


def test_results_that_may_not_be_written_are_named(folder: Path) -> None:
    assert os.getuid() == 0
