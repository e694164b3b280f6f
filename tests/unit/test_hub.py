"""The Hub: what is fetched and recorded, offline and by a lock too, with the real client and a Hub on this machine."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.fake_hub import FakeHub, blob_of, commit_of
from tests.messages import one_sentence
from tests.served import FILES, REPO, SOURCE, WEIGHTS, fetch, refused
from twin_merging.errors import UserError
from twin_merging.fetching import hub


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
