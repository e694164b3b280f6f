"""A store of files by content: what is put in is taken whole or not at all, and the rest is cleaned up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from twin_merging.io.store import DamagedError, Store
from twin_merging.io.store_size import clear, damaged, default_limit, entries, sizes, trim


def name_of(content: str) -> str:
    return sha256(content.encode()).hexdigest()


def put(store: Store, key: str, content: str, place: Path) -> str:
    """Keep one file under a key; gives its name in the store."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(content)
    name = name_of(content)
    store.put("group", key, {"kept": [name]}, {name: place})
    return name


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_a_file_that_only_the_store_has_is_taken_as_a_second_name_with_the_time_of_now(
    store: Store, tmp_path: Path
) -> None:
    name = put(store, "key", "content", tmp_path / "made")
    os.utime(tmp_path / "made", (1, 1))
    (tmp_path / "made").unlink()
    store.take(name, tmp_path / "taken")
    assert (tmp_path / "taken").samefile(store.file(name))
    assert (tmp_path / "taken").stat().st_mtime > time.time() - 60
    assert store.entry("group", "key") == {"kept": [name]}


def test_a_file_that_has_another_name_is_copied_so_that_no_time_of_another_suite_changes(
    store: Store, tmp_path: Path
) -> None:
    name = put(store, "key", "content", tmp_path / "made")
    before = (tmp_path / "made").stat()
    store.take(name, tmp_path / "taken")
    os.utime(tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "content"
    assert not (tmp_path / "taken").samefile(store.file(name))
    after = (tmp_path / "made").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_what_others_may_write_is_copied_in_and_out(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", own=False)
    name = put(store, "key", "content", tmp_path / "made")
    (tmp_path / "made").write_text("changed in place")
    store.take(name, tmp_path / "taken")
    assert store.file(name).stat().st_nlink == 1
    assert (tmp_path / "taken").read_text() == "content"


@pytest.mark.skipif(os.path.realpath("/dev/shm") != "/dev/shm", reason="no second file system to try it on")
def test_a_store_on_another_disk_has_copies(tmp_path: Path) -> None:
    if os.stat("/dev/shm").st_dev == tmp_path.stat().st_dev:
        pytest.skip("the folder for tests is on that disk")
    store = Store(Path("/dev/shm", f"store-{os.getpid()}"))
    try:
        name = put(store, "key", "content", tmp_path / "made")
        store.take(name, tmp_path / "taken")
        assert (tmp_path / "taken").read_text() == "content"
    finally:
        clear(store)
    assert not store.root.exists()


@pytest.mark.parametrize("content", ["contenT", "cut", ""])
def test_a_file_with_other_content_is_never_taken(store: Store, tmp_path: Path, content: str) -> None:
    name = put(store, "key", "content", tmp_path / "made")
    (tmp_path / "made").write_text(content)  # in place: it is the store's file
    with pytest.raises(DamagedError, match=f"{name}: its content is not that of its name"):
        store.take(name, tmp_path / "taken")
    assert not (tmp_path / "taken").exists()
    store.drop("group", "key", [name])
    assert not store.file(name).exists()
    assert store.entry("group", "key") is None


def test_a_file_that_was_cut_short_is_put_in_anew(store: Store, tmp_path: Path) -> None:
    name = put(store, "key", "content", tmp_path / "made")
    (tmp_path / "made").unlink()
    store.file(name).write_text("cut")
    put(store, "other", "content", tmp_path / "again")
    assert store.file(name).read_text() == "content"


def test_a_file_that_only_the_store_has_becomes_one_with_that_which_is_put_in(store: Store, tmp_path: Path) -> None:
    name = put(store, "key", "content", tmp_path / "made")
    (tmp_path / "made").unlink()
    put(store, "other", "content", tmp_path / "again")
    assert store.file(name).samefile(tmp_path / "again")
    put(store, "third", "content", tmp_path / "more")
    assert store.file(name).samefile(tmp_path / "again")
    assert sum(sizes(store).values()) == 0


def test_a_changed_entry_is_noticed(store: Store, tmp_path: Path) -> None:
    put(store, "key", "content", tmp_path / "made")
    file = store.entry_file("group", "key")
    file.write_text(file.read_text().replace("kept", "kepT"))
    with pytest.raises(DamagedError, match=r"key\.json: its content is not that of its hash"):
        store.entry("group", "key")
    file.write_text("half")
    with pytest.raises(DamagedError, match=r"key\.json: cannot be read"):
        store.entry("group", "key")


def test_no_link_is_followed_out_of_the_store(store: Store, tmp_path: Path) -> None:
    name = put(store, "key", "content", tmp_path / "made")
    (tmp_path / "secret").write_text("content")
    store.file(name).unlink()
    store.file(name).symlink_to(tmp_path / "secret")
    with pytest.raises(DamagedError, match="not there"):
        store.take(name, tmp_path / "taken")
    store.entry_file("group", "key").rename(tmp_path / "key.json")
    store.entry_file("group", "key").symlink_to(tmp_path / "key.json")
    assert store.entry("group", "key") is None
    with pytest.raises(DamagedError, match="no SHA-256"):
        store.file("../../secret")


def test_jobs_that_put_and_take_at_once_disturb_none(store: Store, tmp_path: Path) -> None:
    def job(number: int) -> str:
        content = "content" * (1 + number % 2 * 50_000)
        name = put(store, f"key{number % 3}", content, tmp_path / str(number) / "made")
        store.take(name, tmp_path / str(number) / "taken")
        assert (tmp_path / str(number) / "taken").read_text() == content
        return name

    with ThreadPoolExecutor(8) as pool:
        names = set(pool.map(job, range(60)))
    assert names == {name_of("content"), name_of("content" * 50_001)}
    assert damaged(store) == []
    assert [file.name for file in store.root.rglob("*.partial")] == []


PUT = """
import os, sys
from pathlib import Path
from twin_merging.io import store, files
folder, at = Path(sys.argv[1]), int(sys.argv[2])
calls = iter(range(100))
def killed(old):
    def call(*arguments, **more):
        if next(calls) == at:
            os.kill(os.getpid(), 9)
        return old(*arguments, **more)
    return call
for module, name in ((os, "link"), (os, "replace"), (os, "fsync"), (store, "copy_file")):
    setattr(module, name, killed(getattr(module, name)))
made = {}
for number in range(2):
    (folder / str(number)).write_text(str(number) * 100)
    made[files.sha256(folder / str(number))] = folder / str(number)
(folder / "link").hardlink_to(folder / "1")
store.Store(folder / "store").put("group", "key", {"kept": sorted(made)}, made)
"""


def test_a_put_that_is_killed_at_any_step_leaves_nothing_that_is_used(tmp_path: Path) -> None:
    ended = []
    for at in range(20):
        folder = tmp_path / str(at)
        folder.mkdir()
        ended.append(subprocess.run([sys.executable, "-c", PUT, str(folder), str(at)], check=False).returncode)
        store = Store(folder / "store")
        for file in (store.root / "files").glob("??/[!.]*"):
            assert sha256(file.read_bytes()).hexdigest() == file.name
        assert (store.entry("group", "key") is not None) == (ended[-1] == 0)
        if ended[-1] == 0:
            break
    assert len(ended) > 5
    assert set(ended[:-1]) == {-signal.SIGKILL}


def used(store: Store, *keys: str) -> None:
    """Let the entries have been used in this order."""
    for number, key in enumerate(keys):
        os.utime(store.entry_file("group", key), (number, number))


def test_what_was_used_longest_ago_goes_until_the_rest_is_within_the_limit(store: Store, tmp_path: Path) -> None:
    for key in "abc":
        put(store, key, key * 1000, tmp_path / key).encode()
        (tmp_path / key).unlink()
    used(store, "b", "a", "c")
    assert trim(store, 3000) == 0
    assert trim(store, 2000) == 1000
    assert [entry.key for entry in entries(store)] == ["a", "c"]
    assert not store.file(name_of("b" * 1000)).exists()
    store.mark_used("group", "a")
    assert trim(store, 1500) == 1000
    assert [entry.key for entry in entries(store)] == ["a"]


def test_what_lies_in_the_results_too_costs_nothing_and_stays(store: Store, tmp_path: Path) -> None:
    put(store, "old", "old" * 1000, tmp_path / "old")
    put(store, "new", "new" * 1000, tmp_path / "new")
    (tmp_path / "new").unlink()
    used(store, "old", "new")
    assert sum(sizes(store).values()) == 3000
    assert trim(store, 1000) == 3000
    assert [entry.key for entry in entries(store)] == ["old"]


def test_a_file_of_two_entries_goes_with_the_second(store: Store, tmp_path: Path) -> None:
    name = put(store, "one", "same" * 1000, tmp_path / "made")
    put(store, "two", "same" * 1000, tmp_path / "made")
    (tmp_path / "made").unlink()
    used(store, "one", "two")
    assert trim(store, 0) == 4000
    assert not store.file(name).exists()
    assert entries(store) == []


def test_what_killed_processes_left_goes_when_it_is_old(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "key", "content", tmp_path / "made")
    left = store.file("0" * 64)
    for file in (left, left.with_name(".x.01234567-1-1-1.partial"), store.group("group") / ".y.partial"):
        file.parent.mkdir(exist_ok=True)
        file.write_text("left")
    trim(store, 10**9)
    assert left.exists()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 4000)
    assert trim(store, 10**9) == 12
    files = {file.name for file in store.root.rglob("*") if file.is_file()}
    assert files == {name_of("content"), "key.json"}


def test_damage_is_named_and_removed(store: Store, tmp_path: Path) -> None:
    name = put(store, "key", "content", tmp_path / "made")
    put(store, "good", "good", tmp_path / "good")
    (tmp_path / "made").write_text("contenT")
    said = damaged(store)
    reasons = ["its content is not that of its name", f"its file {name} is missing"]
    assert [line.split(": ")[1] for line in said] == reasons
    assert [entry.key for entry in entries(store)] == ["good"]
    assert damaged(store) == []


def test_the_default_limit_is_a_tenth_of_the_disk(store: Store) -> None:
    state = os.statvfs(store.root.parent)
    assert default_limit(store) == state.f_blocks * state.f_frsize // 10
