"""Mirrors of the Hub: ETags and listings of other forms, with the real client and a Hub on this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from tests.fake_hub import FakeHub, blob_of, commit_of
from tests.served import FILES, REPO, SOURCE, WEIGHTS, fetch, half_files, refused
from twin_merging.fetching import hub
from twin_merging.fetching.hashes import disagreement, hash_of, is_hash

CONFIG = b'{"a": 1}'


def sha1(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def pointer(content: bytes) -> bytes:
    """What git holds of a file in Git LFS."""
    digest = hashlib.sha256(content).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {len(content)}\n".encode()


HASHES: dict[str, Callable[[bytes], str]] = {
    "plain SHA-1": lambda content: f'"{sha1(content)}"',
    "plain SHA-1 in capitals": lambda content: f'"{sha1(content).upper()}"',
    "weak plain SHA-1": lambda content: f'W/"{sha1(content)}"',
    "git's SHA-1": lambda content: f'"{blob_of(content)}"',
    "git's SHA-1 of the pointer": lambda content: f'"{blob_of(pointer(content))}"',
    "SHA-256": lambda content: f'"{hashlib.sha256(content).hexdigest()}"',
}
OTHERS: dict[str, Callable[[bytes], str]] = {
    "MD5": lambda content: f'"{md5(content)}"',
    "MD5 of parts": lambda content: f'"{md5(md5(content).encode())}-12"',
    "weak": lambda content: f'W/"{len(content):x}-18f2a"',
    "time and size": lambda content: f'"63f8a1b2-{len(content)}"',
    "identifier": lambda content: f'"0f8fad5b-d9cb-469f-a165-{len(content):012d}"',
    "Azure's": lambda content: f'"0x8D{len(content):013X}"',
    "Nexus's": lambda content: f'"{{SHA1{{{sha1(content)}}}}}"',
    "a word of 40 letters": lambda content: f'"{"xyzw" * 10}{len(content)}"',
    "with slashes": lambda content: f'"Xy/{len(content)}+/w=="',
    "without quotes": lambda content: f"v{len(content)}",
}


@pytest.mark.parametrize("name", [*HASHES, *OTHERS])
def test_a_file_is_fetched_whatever_its_etag_is_made_of(
    served: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: list[float], name: str
) -> None:
    served.etag = {**HASHES, **OTHERS}[name]
    record = fetch(tmp_path)
    assert record["files"]["config.json"]["sha256"] == hashlib.sha256(CONFIG).hexdigest()
    assert not waits
    served.requests.clear()
    assert fetch(tmp_path) == record
    assert not served.downloaded()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch(tmp_path) == record


@pytest.mark.parametrize("name", HASHES)
def test_a_cache_that_was_damaged_is_noticed_by_an_etag_that_is_a_hash(
    served: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    served.etag = HASHES[name]
    fetch(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    (file,) = tmp_path.glob("cache/models--own--model/snapshots/*/model.safetensors")
    file.resolve().write_bytes(WEIGHTS[:-1] + b"x")
    refused(tmp_path, REPO, "model.safetensors", "cache", "network")


@pytest.mark.parametrize("name", ["plain SHA-1", "MD5", "weak"])
def test_content_that_the_listing_does_not_state_is_refused_whatever_the_etag_is(
    served: FakeHub, tmp_path: Path, waits: list[float], name: str
) -> None:
    served.etag = {**HASHES, **OTHERS}[name]
    served.fault(f"GET /own/model/resolve/{commit_of('one')}/model", "corrupt")
    refused(tmp_path, "model.safetensors", "arrived as sha256:", "attempts")
    served.faults.clear()
    fetch(tmp_path)


@pytest.mark.parametrize("content", [b"x", b"of something else", WEIGHTS[1:]])
def test_forty_digits_that_are_no_sha1_of_the_content_are_refused(
    served: FakeHub, tmp_path: Path, waits: list[float], content: bytes
) -> None:
    # Each file has an ETag of its own: the client keeps files of one ETag in one place of its cache.
    served.etag = lambda found: f'"{sha1(content + found[::-1])}"'
    refused(tmp_path, "arrived as git-blob:", sha1(content + b'{"a": 1}'[::-1]), "attempts")
    assert not half_files(tmp_path)


def listed_as(**changes: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A listing with other values; a key whose value is an Ellipsis is not in it."""
    return lambda entry: {key: value for key, value in {**entry, **changes}.items() if value is not ...}


def with_sha1(entry: dict[str, Any]) -> dict[str, Any]:
    """As a server lists that knows nothing of git: plain SHA-1, and no LFS."""
    content = CONFIG if entry["path"] == "config.json" else WEIGHTS
    return {**{key: value for key, value in entry.items() if key != "lfs"}, "oid": sha1(content)}


LISTINGS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "plain SHA-1": with_sha1,
    "no hash": listed_as(oid=None, lfs=...),
    "an empty hash": listed_as(oid="", lfs=...),
    "an identifier": listed_as(oid="0f8fad5b-d9cb-469f-a165", lfs=...),
    "no size": listed_as(size=None),
    "a pointer's size": listed_as(size=134),
}


@pytest.mark.parametrize("name", LISTINGS)
def test_a_listing_of_another_form_serves_and_can_be_locked(
    served: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: list[float], name: str
) -> None:
    served.line, served.etag = LISTINGS[name], OTHERS["MD5"]
    pins = hub.hashes_of(hub.list_repository(SOURCE["hub"]), FILES)
    assert all(map(is_hash, pins.values())), pins
    fetch(tmp_path, pinned=pins)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    fetch(tmp_path, pinned=pins)
    (file,) = tmp_path.glob("cache/models--own--model/snapshots/*/model.safetensors")
    file.resolve().write_bytes(WEIGHTS[:-1] + b"x")
    refused(tmp_path, "model.safetensors", "locked", "snakemake lock", pinned=pins)


@pytest.mark.parametrize("name", ["plain SHA-1", "no hash"])
def test_a_lock_of_the_hub_holds_for_its_mirror_and_the_other_way_round(
    served: FakeHub, tmp_path: Path, waits: list[float], name: str
) -> None:
    of_hub = hub.hashes_of(hub.list_repository(SOURCE["hub"]), FILES)
    served.line = LISTINGS[name]
    of_mirror = hub.hashes_of(hub.list_repository(SOURCE["hub"]), FILES)
    assert of_hub != of_mirror
    fetch(tmp_path, pinned=of_hub)
    served.line = None
    fetch(tmp_path, pinned=of_mirror)


def test_a_mirror_that_states_no_hash_cannot_pass_other_content_than_locked(
    served: FakeHub, tmp_path: Path, waits: list[float]
) -> None:
    pins = hub.hashes_of(hub.list_repository(SOURCE["hub"]), FILES)
    served.line, served.etag = LISTINGS["no hash"], OTHERS["weak"]
    served.fault("GET /own/model/resolve", "corrupt")
    refused(tmp_path, "config.json", pins["config.json"], "locked", "snakemake lock", pinned=pins)


@pytest.mark.parametrize("wrong", ["None", "md5:0123", "sha256:0123", "git-blob:" + "g" * 40, "sha256:" + "0" * 40])
def test_a_lock_with_what_is_no_hash_is_named(served: FakeHub, tmp_path: Path, wrong: str) -> None:
    pins = hub.hashes_of(hub.list_repository(SOURCE["hub"]), FILES)
    refused(tmp_path, "config.json", wrong, "no hash", "snakemake lock", pinned={**pins, "config.json": wrong})


def test_offline_a_lock_has_the_hashes_of_what_is_in_the_cache(
    served: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    pins = hub.hashes_of(hub.list_repository(SOURCE["hub"]), FILES)
    assert pins["config.json"] == f"sha256:{hashlib.sha256(CONFIG).hexdigest()}"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    fetch(tmp_path, pinned=pins)


@pytest.mark.parametrize("missing", ["oid", "size"])
def test_a_listing_without_what_the_client_needs_names_the_server(
    served: FakeHub, tmp_path: Path, missing: str
) -> None:
    served.line = listed_as(**{missing: ...})
    refused(tmp_path, REPO, "lists files in another form than a Hub", missing, "HF_ENDPOINT")


def test_only_hexadecimal_digits_in_a_hashs_number_are_a_hash(tmp_path: Path) -> None:
    assert hash_of("A" * 40) == "git-blob:" + "a" * 40
    assert hash_of("0" * 64) == "sha256:" + "0" * 64
    assert [hash_of(text) for text in (None, "", "0" * 32, "g" * 40, "0" * 39, "0" * 41)] == [None] * 6
    (tmp_path / "x").write_bytes(b"")
    assert disagreement(tmp_path / "x", "git-blob:e69de29bb2d1d6434b8b29ae775ad8c2e48c5391") is None
    assert disagreement(tmp_path / "x", "git-blob:da39a3ee5e6b4b0d3255bfef95601890afd80709") is None
