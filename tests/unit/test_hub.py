"""The Hub: what is fetched and recorded, and every fault, with the real client against a Hub on this machine."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from tests.fake_hub import Answer, FakeHub, blob_of, commit_of, used_here
from tests.messages import one_sentence
from twin_merging.errors import UserError
from twin_merging.fetching import faults, hub
from twin_merging.fetching.sources import located

REPO = "own/model"
SOURCE = {"hub": {"repo": REPO, "revision": "main"}}
FILES = ["config.json", "model.safetensors"]
WEIGHTS = bytes(range(256)) * 4000


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Nothing sleeps; how long it would have."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    return slept


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A Hub with one model, that the client in this process uses with a cache of its own."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "config.json").write_text('{"a": 1}')
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    (folder / "pytorch_model.bin").write_bytes(b"pickled")
    (folder / "classifier_head.pt").write_bytes(b"pickled")
    hub = FakeHub()
    hub.add(REPO, folder, main=commit_of("one"), old=commit_of("zero"))
    with used_here(hub, tmp_path / "cache", monkeypatch):
        yield hub


def fetch(tmp_path: Path, source: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Fetch, check the bytes, and give the record."""
    with located(source or SOURCE, FILES, tmp_path / "out", **more) as (folder, record):
        assert (folder / "config.json").read_text() == '{"a": 1}'
        assert (folder / "model.safetensors").read_bytes() == WEIGHTS
        return record


def refused(tmp_path: Path, *words: str, source: dict[str, Any] | None = None, **more: Any) -> None:
    with pytest.raises(UserError) as caught:
        fetch(tmp_path, source, **more)
    one_sentence(caught.value, *words)


def half_files(tmp_path: Path) -> list[Path]:
    """Whatever in the cache is not a whole file: partial downloads, and files under names that are not their hash."""
    blobs = [path for path in tmp_path.glob("cache/models--*/blobs/*") if path.is_file()]
    whole = {
        path
        for path in blobs
        if path.name in (hashlib.sha256(path.read_bytes()).hexdigest(), blob_of(path.read_bytes()))
    }
    return sorted(set(blobs) - whole)


# -- what is fetched and recorded


def test_a_record_has_commit_hash_and_size_and_nothing_else_is_fetched(served: FakeHub, tmp_path: Path) -> None:
    record = fetch(tmp_path)
    assert record["source"] == SOURCE
    assert record["revision"] == commit_of("one")
    assert record["files"]["model.safetensors"] == {
        "sha256": hashlib.sha256(WEIGHTS).hexdigest(),
        "size": len(WEIGHTS),
    }
    assert served.downloaded() == {f"{REPO}/config.json", f"{REPO}/model.safetensors"}


def test_a_second_fetch_downloads_nothing(served: FakeHub, tmp_path: Path) -> None:
    fetch(tmp_path)
    served.requests.clear()
    assert fetch(tmp_path)["revision"] == commit_of("one")
    assert not served.downloaded()


def test_a_commit_is_fetched_by_its_name(served: FakeHub, tmp_path: Path) -> None:
    assert fetch(tmp_path, {"hub": {"repo": REPO, "revision": commit_of("zero")}})["revision"] == commit_of("zero")
    assert not [line for line in served.requests if "/main" in line]


def test_a_branch_that_moves_during_the_download_is_followed(
    served: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    listed = hub.list_repository(SOURCE["hub"])
    served.repositories["models", REPO].revisions = {"main": commit_of("two")}
    with pytest.raises(UserError) as caught:
        hub.download(listed, FILES)
    one_sentence(caught.value, REPO, "moved", commit_of("one"), commit_of("two"))
    assert fetch(tmp_path)["revision"] == commit_of("two")


def test_a_token_opens_a_private_repository(served: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served.tokens[REPO] = "hf_mine"
    refused(tmp_path, REPO, "private", "HF_TOKEN")
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    fetch(tmp_path)


# -- faults that pass

PASSING = {
    "reset": ("GET /own/model/resolve", "reset", None),
    "truncated": ("GET /own/model/resolve", "truncated", None),
    "stall": ("GET /own/model/resolve", "stall", None),
    "corrupt": ("GET /own/model/resolve", "corrupt", None),
    "wrong size": ("/own/model/resolve", "wrong size", None),
    "wrong ETag": ("HEAD /own/model/resolve", "wrong etag", None),
    "429": ("GET /own/model/resolve", "status", (429, {"Retry-After": "7"})),
    "429 of the listing": ("/tree/", "status", (429, {"Retry-After": "7"})),
    "429 of the repository": ("/revision/main", "status", (429, {"Retry-After": "7"})),
    "500": ("GET /own/model/resolve", "status", 500),
    "503": ("HEAD /own/model/resolve", "status", 503),
    "503 of the listing": ("/revision/main", "status", 503),
}


@pytest.mark.parametrize("name", PASSING)
def test_a_fault_that_passes_is_overcome(served: FakeHub, tmp_path: Path, waits: list[float], name: str) -> None:
    part, kind, value = PASSING[name]
    served.fault(part, kind, 1, value)
    fetch(tmp_path)
    assert served.faults[0].times == 0
    assert not half_files(tmp_path)
    if "429" in name:
        assert max(waits) >= 7


def test_a_body_that_was_cut_off_is_resumed_where_it_ended(
    served: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    sent: list[int] = []
    send = Answer.send

    def counted(self: Answer, status: int, body: bytes, headers: Any, fault: str = "") -> None:
        sent.append(len(body))
        send(self, status, body, headers, fault)

    monkeypatch.setattr(Answer, "send", counted)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    served.fault(f"GET /own/model/resolve/{commit_of('one')}/model", "truncated", 1)
    fetch(tmp_path)
    assert len(WEIGHTS) // 2 in sent


# -- faults that do not pass

LASTING = {
    "reset": ("GET /own/model/resolve", "reset", None, ("broke off", "attempts")),
    "truncated": ("GET /own/model/resolve", "truncated", None, ("broke off", "attempts")),
    "corrupt": ("GET /own/model/resolve", "corrupt", None, ("states", "attempts")),
    "wrong size": ("/own/model/resolve", "wrong size", None, ("states", "attempts")),
    "wrong ETag": ("HEAD /own/model/resolve", "wrong etag", None, ("states", "attempts")),
    "429": ("GET /own/model/resolve", "status", (429, {"Retry-After": "3"}), ("HTTP 429", "run again later")),
    "503": ("/revision/main", "status", 503, ("HTTP 503", "run again later")),
    "500": ("/tree/", "status", 500, ("HTTP 500", "run again later")),
}
FINAL = {
    "401": ("resolve", "status", 401, ("hf auth login", "HF_TOKEN")),
    "403": ("resolve", "status", 403, ("403", "hf auth login", "HF_TOKEN")),
    "gated": ("resolve", "status", (403, {"X-Error-Code": "GatedRepo"}), ("restricted", "ask for it", "HF_TOKEN")),
    "missing file": ("GET /own/model/resolve", "missing", None, ("lists a file", "another revision")),
    "404": ("/revision/main", "status", 404, ("HTTP 404", "correct")),
}


@pytest.mark.parametrize("name", [*LASTING, *FINAL])
def test_a_fault_that_stays_stops_with_one_sentence_and_leaves_nothing(
    served: FakeHub, tmp_path: Path, waits: list[float], name: str
) -> None:
    part, kind, value, words = {**LASTING, **FINAL}[name]
    served.fault(part, kind, value=value)
    refused(tmp_path, f"{REPO} at revision main", *words)
    assert not half_files(tmp_path)
    assert not (tmp_path / "out").exists()
    assert bool(waits) == (name in LASTING)
    served.faults.clear()
    fetch(tmp_path)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"repo": "own/modle", "revision": "main"}, ("own/modle", "no such repository", "repo in the suite")),
        ({"repo": REPO, "revision": "mian"}, ("mian", "no such revision", "suite")),
        ({"repo": REPO, "revision": "main", "subfolder": "cola"}, ("'cola/'", "subfolder in the suite")),
    ],
    ids=["repository", "revision", "folder"],
)
def test_a_wrong_name_is_said_at_once(
    served: FakeHub, tmp_path: Path, waits: list[float], source: dict[str, str], words: tuple[str, ...]
) -> None:
    refused(tmp_path, *words, source={"hub": source})
    assert not waits


def test_a_refused_connection_names_the_endpoint(
    served: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    refused(tmp_path, REPO, "no connection", "HF_ENDPOINT (http://127.0.0.1:9)")
    assert waits[0] < waits[1] < waits[2]


def test_the_number_of_attempts_can_be_set(
    served: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    monkeypatch.setenv(faults.ATTEMPTS, "2")
    served.fault("/revision/main", "status", value=503)
    refused(tmp_path, "after 2 attempts")
    monkeypatch.setenv(faults.ATTEMPTS, "none")
    refused(tmp_path, faults.ATTEMPTS, "'none'")


def test_a_hub_that_falls_silent_is_given_up(
    served: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    monkeypatch.setenv(faults.ATTEMPTS, "1")
    served.fault(f"GET /own/model/resolve/{commit_of('one')}/model", "stall")
    refused(tmp_path, REPO, "does not answer in time", "HF_ENDPOINT")
    assert not half_files(tmp_path)


# -- disks


def test_a_disk_without_room_is_said_before_the_download(
    served: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", ["total", "used", "free"])
    monkeypatch.setattr(faults.shutil, "disk_usage", lambda _: usage(0, 0, faults.SPARE + len(WEIGHTS)))
    refused(tmp_path, REPO, "MB are needed", str(tmp_path), "MB are free", "HF_HOME")
    assert not served.downloaded()


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, ("no space left", "HF_HOME")), (errno.EROFS, ("cannot write", "HF_HOME"))]
)
def test_a_disk_that_fails_during_the_download_is_named(
    served: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: list[float], number: int, words: Any
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number), "/disk/file")

    monkeypatch.setattr("huggingface_hub.file_download.http_get", fails)
    refused(tmp_path, REPO, "/disk/file", *words)
    assert not waits


# -- no network


def test_offline_the_cache_serves_and_what_it_lacks_is_named(
    served: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = fetch(tmp_path)
    served.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch(tmp_path) == record
    refused(tmp_path, "own/other", "HF_HUB_OFFLINE", source={"hub": {"repo": "own/other", "revision": "main"}})
    listing = hub.list_repository(SOURCE["hub"])
    with pytest.raises(UserError) as caught:
        hub.download(listing, ["pytorch_model.bin"])
    one_sentence(caught.value, "HF_HUB_OFFLINE", "'pytorch_model.bin'")
    assert not served.requests


def test_offline_a_damaged_cache_is_noticed(served: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    (blob,) = tmp_path.glob(f"cache/models--own--model/blobs/{hashlib.sha256(WEIGHTS).hexdigest()}")
    blob.write_bytes(WEIGHTS[:-1] + b"x")
    refused(tmp_path, REPO, "model.safetensors", "cache", "network")


# -- locks


def pins(served: FakeHub) -> dict[str, str]:
    return hub.hashes_of(hub.list_repository(SOURCE["hub"]), FILES)


def test_pinned_files_are_fetched(served: FakeHub, tmp_path: Path) -> None:
    found = pins(served)
    assert found["model.safetensors"] == f"sha256:{hashlib.sha256(WEIGHTS).hexdigest()}"
    assert found["config.json"] == "git-blob:" + blob_of(b'{"a": 1}')
    fetch(tmp_path, pinned=found)


@pytest.mark.parametrize("cached", [False, True])
def test_content_other_than_locked_is_refused(
    served: FakeHub, tmp_path: Path, waits: list[float], cached: bool
) -> None:
    if cached:
        fetch(tmp_path)
    wrong = f"sha256:{'0' * 64}"
    refused(tmp_path, "model.safetensors", wrong, "locked", "snakemake lock",
            pinned={**pins(served), "model.safetensors": wrong})  # fmt: skip
    assert not waits


def test_a_file_that_a_lock_does_not_know_is_refused(served: FakeHub, tmp_path: Path) -> None:
    refused(tmp_path, "config.json", "not in the suite's lock", "snakemake lock", pinned={})
