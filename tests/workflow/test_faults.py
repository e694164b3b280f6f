"""Whatever befalls a run, it says so, and one more call completes it with the bytes of an undisturbed run."""

from __future__ import annotations

import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.workflow.faulty import copied, go_on, left_over, start, undone
from tests.workflow.running import hashes_of, snakemake

pytestmark = pytest.mark.workflow

SUITE, STAGE = "made", "compress"


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A working folder in which the run has come to the stage."""
    folder = copied(finished, tmp_path / "run")
    undone(folder, SUITE, STAGE)
    return folder


@pytest.fixture
def whole(finished: Path) -> Callable[[Path], None]:
    """Check that a folder holds the bytes of an undisturbed run, and nothing else."""

    def check(folder: Path) -> None:
        assert hashes_of(folder / "results") == hashes_of(finished / "results")
        assert left_over(folder) == []

    return check


@pytest.mark.parametrize("kind", ["group", "main", "job"])
def test_a_kill_loses_nothing(folder: Path, whole: Callable[[Path], None], kind: str) -> None:
    run = start(folder, SUITE)
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
    run = start(folder, SUITE)
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
    run = start(folder, SUITE)
    assert run.wait_for(STAGE)
    run.hit("group", signal.SIGINT)
    assert run.end() != 0
    again = go_on(folder, SUITE, unlock=False)
    assert again.returncode == 0, again.stderr
    whole(folder)


def test_a_second_run_is_refused_while_the_first_works(folder: Path, whole: Callable[[Path], None]) -> None:
    run = start(folder, SUITE)
    assert run.wait_for(STAGE)
    second = snakemake(folder, "--", f"results/tables/{SUITE}.csv")
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
    """A working folder on a file system of its own."""
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


@pytest.mark.parametrize(
    ("room", "told"),
    [
        (0, "No space left on device"),  # Snakemake's own files find none
        (40, "error: results/made/models/merged: no space is left on its disk; make room and run again"),
    ],
)
def test_a_full_disk_is_named_and_loses_nothing(
    small: Path, whole: Callable[[Path], None], room: int, told: str
) -> None:
    """`room`: kilobytes that are free when the merge begins."""
    undone(small, SUITE, "merge")
    remount(small, f"size={shutil.disk_usage(small).used + room * 1024}")
    run = snakemake(small, "--", f"results/tables/{SUITE}.csv")
    assert run.returncode != 0
    assert told in run.stderr
    remount(small, "size=256m")
    again = go_on(small, SUITE)
    assert again.returncode == 0, again.stderr
    whole(small)


@pytest.mark.parametrize("part", [".", "results"])
def test_a_read_only_folder_is_named_and_loses_nothing(small: Path, whole: Callable[[Path], None], part: str) -> None:
    """Snakemake's own files, or those of the jobs, which Snakemake makes way for."""
    undone(small, SUITE, STAGE)
    place = str(small / part)
    subprocess.run(["mount", "--bind", place, place], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", place], check=True)
        run = snakemake(small, "--", f"results/tables/{SUITE}.csv")
    finally:
        subprocess.run(["umount", place], check=True)
    assert run.returncode != 0
    assert "Read-only file system: " in run.stderr
    again = go_on(small, SUITE)
    assert again.returncode == 0, again.stderr
    whole(small)
