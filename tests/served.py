"""One model on a Hub on this machine, fetched by the real client in this process."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from tests.fake_hub import blob_of
from tests.messages import one_sentence
from twin_merging.errors import UserError
from twin_merging.fetching.sources import located

REPO = "own/model"
SOURCE = {"hub": {"repo": REPO, "revision": "main"}}
FILES = ["config.json", "model.safetensors"]
WEIGHTS = bytes(range(256)) * 4000


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
