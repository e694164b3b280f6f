"""Files and directories that appear whole or not at all, whoever else writes to the same place."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.messages import one_sentence
from twin_merging.errors import UserError
from twin_merging.io import partials
from twin_merging.io.files import link_file, whole_directory, whole_file
from twin_merging.io.partials import beside, folder_beside, own_name

ROUNDS = 300

# Each process writes its own letter into every part, so that a mixture shows.
WRITER = """
import sys
from pathlib import Path
from twin_merging.io.files import whole_directory, whole_file
kind, path, letter, rounds = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
for _ in range(rounds):
    if kind == "file":
        with whole_file(path) as partial, open(partial, "w") as stream:
            for _ in range(50):
                stream.write(letter * 100)
                stream.flush()
    else:
        with whole_directory(path) as partial:
            for name in "pqrs":
                (partial / name).write_text(letter)
"""
HELD = """
import sys, time
from pathlib import Path
from twin_merging.io.files import whole_directory
with whole_directory(Path(sys.argv[1])) as partial:
    (partial / "begun").write_text("half")
    print(partial.name, flush=True)
    time.sleep(60)
"""


def writers(kind: str, path: Path, letters: str) -> list[subprocess.Popen[str]]:
    return [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, kind, str(path), letter, str(ROUNDS)], stderr=subprocess.PIPE, text=True
        )
        for letter in letters
    ]


def held(path: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process that is in the middle of writing a directory, and what it writes to."""
    process = subprocess.Popen([sys.executable, "-c", HELD, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, path.with_name(process.stdout.readline().strip())


def read_directory(path: Path) -> set[str]:
    """What the files say of the directory that has this path now; nothing where none has, or it goes while it is
    read."""
    try:
        opened = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return set()
    try:
        texts = set()
        for name in os.listdir(opened):
            with open(os.open(name, os.O_RDONLY, dir_fd=opened)) as stream:
                texts.add(stream.read())
        return texts
    except FileNotFoundError:
        return set()
    finally:
        os.close(opened)


def test_of_processes_that_write_one_file_no_mixture_is_ever_seen(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    running = writers("file", path, "abc")
    seen = set()
    while any(process.poll() is None for process in running):
        seen |= {path.read_text()} if path.exists() else set()
    assert [process.communicate()[1] for process in running] == [""] * 3
    assert seen <= {letter * 5000 for letter in "abc"}
    assert [file.name for file in tmp_path.iterdir()] == ["scores.csv"]


def test_of_processes_that_write_one_directory_no_mixture_is_ever_seen(tmp_path: Path) -> None:
    path = tmp_path / "model"
    running = writers("directory", path, "abc")
    while any(process.poll() is None for process in running):
        assert len(read_directory(path)) <= 1
    assert [process.communicate()[1] for process in running] == [""] * 3
    assert sorted(file.name for file in path.iterdir()) == ["p", "q", "r", "s"]
    assert len(read_directory(path)) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


def test_a_directory_that_may_not_replace_another_is_refused_and_the_other_stays(tmp_path: Path) -> None:
    path = tmp_path / "model"

    def write(*texts: str) -> None:
        """Write them, each while the one before is under way."""
        with whole_directory(path, replace=False) as partial:
            (partial / "x").write_text(texts[0])
            if texts[1:]:
                write(*texts[1:])

    with pytest.raises(UserError) as caught:
        write("late", "first")
    one_sentence(caught.value, "model: was filled by another process meanwhile", "name a new directory")
    assert (path / "x").read_text() == "first"
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


def test_an_empty_directory_is_filled_without_leave_to_replace(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with whole_directory(tmp_path / "model", replace=False) as partial:
        (partial / "x").write_text("")
    assert os.listdir(tmp_path / "model") == ["x"]


@pytest.mark.parametrize("killed", [True, False])
def test_what_a_killed_process_left_is_removed_and_what_a_live_one_writes_is_not(tmp_path: Path, killed: bool) -> None:
    process, partial = held(tmp_path / "model")
    try:
        assert (partial / "begun").exists()
        if killed:
            process.send_signal(signal.SIGKILL)
            process.wait()
        with whole_directory(tmp_path / "model") as own:
            (own / "x").write_text("whole")
        assert partial.exists() != killed
        assert (tmp_path / "model" / "x").read_text() == "whole"
    finally:
        process.kill()
        process.communicate()


def test_a_process_that_ended_and_was_not_waited_for_counts_as_dead(tmp_path: Path) -> None:
    process, partial = held(tmp_path / "model")
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie
    with beside(tmp_path / "model"):
        assert not partial.exists()
    process.communicate()


def test_another_process_that_got_a_dead_ones_number_is_not_taken_for_it(tmp_path: Path) -> None:
    mine = own_name(tmp_path / "x.csv")
    before = mine.with_name(mine.name.replace(f"-{partials._began(os.getpid())}-", "-1-"))
    mine.write_text("of a live process")
    before.write_text("of a dead one that had the same number")
    with beside(tmp_path / "x.csv"):
        assert list(tmp_path.iterdir()) == [mine]


@pytest.mark.parametrize(("hours", "stays"), [(0, True), (23, True), (25, False)])
def test_what_another_machine_left_is_removed_when_nothing_in_it_has_changed_for_a_day(
    tmp_path: Path, hours: int, stays: bool
) -> None:
    theirs = tmp_path / ".model.00000000-1-1-0.partial"
    (theirs / "private").mkdir(parents=True)
    (theirs / "private" / "x").write_text("half")
    then = time.time() - hours * 3600
    old = time.time() - 100 * 3600
    for path, at in ((theirs / "private" / "x", then), (theirs / "private", old), (theirs, old)):
        os.utime(path, (at, at))
    with beside(tmp_path / "model"):
        assert theirs.exists() == stays


@pytest.mark.parametrize(
    "other", [".model.partial", ".model.b.00000000-1-1-0.partial", ".model.notes", "model.partial"]
)
def test_what_only_looks_like_a_left_over_stays(tmp_path: Path, other: str) -> None:
    (tmp_path / other).write_text("mine")
    os.utime(tmp_path / other, (0, 0))
    with whole_file(tmp_path / "model") as partial:
        partial.write_text("")
    assert (tmp_path / other).read_text() == "mine"


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127, " a\n'*[", "-", "~", "a%s{b}"])
def test_a_name_may_be_whatever_the_file_system_takes(tmp_path: Path, name: str) -> None:
    with whole_file(tmp_path / name) as partial:
        partial.write_text("file")
    assert (tmp_path / name).read_text() == "file"
    (tmp_path / name).unlink()
    with whole_directory(tmp_path / name) as partial:
        (partial / name).write_text("in it")
    assert (tmp_path / name / name).read_text() == "in it"


def test_a_link_to_a_directory_stays_one(tmp_path: Path) -> None:
    (tmp_path / "disk" / "models").mkdir(parents=True)
    (tmp_path / "disk" / "models" / "old").write_text("")
    (tmp_path / "model").symlink_to("disk/models")
    with whole_directory(tmp_path / "model") as partial:
        (partial / "new").write_text("")
    assert (tmp_path / "model").is_symlink()
    assert os.listdir(tmp_path / "disk" / "models") == ["new"]


def test_the_working_directory_and_a_file_are_no_place_for_a_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (Path("."), tmp_path, Path("..", tmp_path.name)):
        with pytest.raises(UserError) as caught, whole_directory(path):
            pass
        one_sentence(caught.value, "is the working directory")
    (tmp_path / "file").write_text("precious")
    with pytest.raises(UserError) as caught, whole_directory(tmp_path / "file"):
        pass
    one_sentence(caught.value, "file: is a file and cannot become a directory")
    assert (tmp_path / "file").read_text() == "precious"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(("number", "stays"), [(errno.EXDEV, False), (errno.EBUSY, True)])
def test_a_directory_that_cannot_be_renamed_is_removed_or_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, stays: bool
) -> None:
    """EXDEV: of a container's image. EBUSY: a disk is mounted there."""
    path = tmp_path / "model"
    path.mkdir()
    (path / "old").write_text("")
    rename = os.rename

    def refusing(source: Path, target: Path) -> None:
        if path in ((source, target) if number == errno.EBUSY else (source,)):
            raise OSError(number, os.strerror(number), str(source))
        rename(source, target)

    monkeypatch.setattr(os, "rename", refusing)
    if stays:
        with pytest.raises(UserError) as caught, whole_directory(path):
            pass
        one_sentence(caught.value, "model: is in use, as where a disk is mounted", "name another")
    else:
        with whole_directory(path) as partial:
            (partial / "new").write_text("")
    assert os.listdir(path) == ["old" if stays else "new"]


def test_a_folder_to_work_in_lies_beside_its_output_and_goes(tmp_path: Path) -> None:
    with folder_beside(tmp_path / "deep" / "output") as work:
        assert work.parent == tmp_path / "deep"
        assert os.listdir(work) == []
        (work / "part").write_text("")
    assert os.listdir(tmp_path / "deep") == []


def test_a_second_name_is_the_same_file_and_a_copy_where_that_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "body"
    source.write_bytes(b"numbers")
    for _ in range(2):  # the second time the name is there already
        link_file(source, tmp_path / "models/second")
        assert source.samefile(tmp_path / "models/second")
    with whole_file(source) as partial:  # made again: the second name keeps what it had
        partial.write_bytes(b"others")
    assert (tmp_path / "models/second").read_bytes() == b"numbers"
    monkeypatch.setattr(os, "link", refuse)
    link_file(source, tmp_path / "models/second")
    assert (tmp_path / "models/second").read_bytes() == b"others"
    assert not source.samefile(tmp_path / "models/second")
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["second"]


def refuse(*_: object) -> None:
    raise OSError(errno.EXDEV, "another disk")
