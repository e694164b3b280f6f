"""Whatever befalls a run, it says so, and one more call completes it with the bytes of an undisturbed run.

Each test asks for the files of one stage. What lies above it is there, and what is made from it is no matter: which
jobs follow a change is what test_staleness.py says.
"""

from __future__ import annotations

import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.workflow.faulty import copied, go_on, left_over, start, undone
from tests.workflow.holding import gone, held, hold, let_go
from tests.workflow.running import hashes_of, snakemake

pytestmark = pytest.mark.workflow

WANTED = {
    "compress": [f"results/made/exclusive/merged/{task}.safetensors" for task in ("sentiment", "similarity")],
    "merge": ["results/made/models/merged/model.safetensors"],
}
COMPRESSED = WANTED["compress"]


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A working folder in which the run has come to the stage compress."""
    folder = copied(finished, tmp_path / "run")
    undone(folder, COMPRESSED, "compress")
    return folder


@pytest.fixture
def whole(finished: Path) -> Callable[[Path], None]:
    """Check that a folder holds the bytes of an undisturbed run, and nothing else."""

    def check(folder: Path) -> None:
        assert hashes_of(folder / "results") == hashes_of(finished / "results")
        assert left_over(folder) == []

    return check


@pytest.mark.parametrize(
    ("kind", "stage"), [("group", "compress"), ("main", "compress"), ("job", "compress"), ("main", "merge")]
)
def test_a_kill_between_writing_a_file_and_naming_it_loses_nothing(
    finished: Path, tmp_path: Path, whole: Callable[[Path], None], kind: str, stage: str
) -> None:
    folder = copied(finished, tmp_path / "run")
    undone(folder, WANTED[stage], stage)
    hold(folder, rf"{Path(WANTED[stage][0]).parent}/\w+\.safetensors$")
    run = start(folder, WANTED[stage])
    processes = held(folder)
    assert processes, run.text
    assert left_over(folder)
    assert run.hit(kind, script=stage) is not None
    if kind == "job":
        let_go(folder)  # the other one, which Snakemake waits for
    assert run.end() != 0
    assert gone(processes), "a job outlived what started it"
    let_go(folder)
    again = go_on(folder, WANTED[stage], unlock=kind != "job")
    assert again.returncode == 0, again.stderr
    whole(folder)


def test_control_c_loses_nothing(folder: Path, whole: Callable[[Path], None]) -> None:
    hold(folder, r"/exclusive/merged/\w+\.safetensors$")
    run = start(folder, COMPRESSED)
    processes = held(folder)
    assert processes, run.text
    run.hit("group", signal.SIGINT)
    assert run.end() != 0
    assert gone(processes)
    let_go(folder)
    again = go_on(folder, COMPRESSED, unlock=False)
    assert again.returncode == 0, again.stderr
    whole(folder)


def test_a_second_run_is_refused_while_the_first_works(folder: Path, whole: Callable[[Path], None]) -> None:
    hold(folder, r"/exclusive/merged/\w+\.safetensors$")
    run = start(folder, COMPRESSED)
    assert held(folder), run.text
    second = snakemake(folder, "--", *COMPRESSED)
    assert second.returncode != 0
    assert "cannot be locked" in second.stderr
    let_go(folder)
    assert run.end() == 0, run.text
    whole(folder)


def test_a_job_out_of_memory_loses_nothing(folder: Path, whole: Callable[[Path], None]) -> None:
    """Address space for Snakemake, but not for torch."""
    limit = 700 * 2**20
    run = start(folder, COMPRESSED, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))
    assert run.end() != 0
    assert "error: " in run.text or "Killed" in run.text, run.text
    again = go_on(folder, COMPRESSED, unlock=False)
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
    undone(small, WANTED["merge"], "merge")
    remount(small, f"size={shutil.disk_usage(small).used + room * 1024}")
    run = snakemake(small, "--", *WANTED["merge"])
    assert run.returncode != 0
    assert told in run.stderr
    remount(small, "size=256m")
    again = go_on(small, WANTED["merge"])
    assert again.returncode == 0, again.stderr
    whole(small)


@pytest.mark.parametrize("part", [".", "results"])
def test_a_read_only_folder_is_named_and_loses_nothing(small: Path, whole: Callable[[Path], None], part: str) -> None:
    """Snakemake's own files, or those of the jobs, which Snakemake makes way for."""
    undone(small, COMPRESSED, "compress")
    place = str(small / part)
    subprocess.run(["mount", "--bind", place, place], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", place], check=True)
        run = snakemake(small, "--", *COMPRESSED)
    finally:
        subprocess.run(["umount", place], check=True)
    assert run.returncode != 0
    assert "Read-only file system: " in run.stderr
    again = go_on(small, COMPRESSED)
    assert again.returncode == 0, again.stderr
    whole(small)
