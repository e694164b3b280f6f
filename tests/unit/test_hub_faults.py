"""Every fault of the Hub and of the disk, with the real client against a Hub on this machine."""

from __future__ import annotations

import errno
import os
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from tests.fake_hub import Answer, FakeHub, commit_of
from tests.served import REPO, WEIGHTS, fetch, half_files, refused
from twin_merging.fetching import faults

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
