"""Rows from the Hub: which files a source's splits need, and nothing else; every layout that `datasets` knows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from huggingface_hub import constants

from tests.fake_hub import FakeHub, commit_of, used_here
from tests.messages import one_sentence
from tests.tiny import sentences
from twin_merging.errors import UserError
from twin_merging.fetching.data import fetch_data
from twin_merging.io.files import read_json
from twin_merging.tasks.classification import Labelled

TASK = Labelled(text=("sentence",), labels=2)
SPLITS = {"train": "train[:75%]", "validation": "train[75%:]", "test": "validation_matched"}
CARD = """---
configs:
- config_name: one
  data_files:
  - {split: train, path: one/train-*}
  - {split: validation_matched, path: one/validation_matched-*}
  - {split: validation_mismatched, path: one/validation_mismatched-*}
  - {split: test, path: one/test-*}
- config_name: two
  data_files: [{split: train, path: one/train-*}]
---
Rows.
"""
ROWS = {split: sentences(number, 40, 2, ("sentence",)) for number, split in enumerate(("train", "held", "test"))}


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    folder = tmp_path / "repository"
    (folder / "one").mkdir(parents=True)
    (folder / "README.md").write_text(CARD)
    for part in range(2):
        rows = ROWS["train"].iloc[20 * part : 20 * part + 20]
        rows.to_parquet(folder / f"one/train-0000{part}-of-00002.parquet")
    for split in ("validation_matched", "validation_mismatched", "test"):
        kind = "held" if split == "validation_matched" else "test"
        ROWS[kind].to_parquet(folder / f"one/{split}-00000-of-00001.parquet")
    hub = FakeHub()
    hub.add("own/rows", folder, "datasets")
    with used_here(hub, tmp_path / "cache", monkeypatch):
        yield hub


def source(config: str | None = "one", **splits: str) -> dict[str, Any]:
    hub = {"repo": "own/rows", "revision": "main", **({"config": config} if config else {})}
    return {"hub": hub, "splits": {**SPLITS, **splits}}


def rows_of(folder: Path, use: str) -> pd.DataFrame:
    return pd.read_parquet(folder / f"{use}.parquet")[["sentence", "label"]]


def test_shards_and_slices_give_the_rows_and_only_their_files_are_fetched(served: FakeHub, tmp_path: Path) -> None:
    fetch_data(source(), TASK, tmp_path / "out")
    pd.testing.assert_frame_equal(rows_of(tmp_path / "out", "train"), ROWS["train"].iloc[:30])
    validation = ROWS["train"].iloc[30:].reset_index(drop=True)
    pd.testing.assert_frame_equal(rows_of(tmp_path / "out", "validation"), validation)
    pd.testing.assert_frame_equal(rows_of(tmp_path / "out", "test"), ROWS["held"])
    names = ["README.md", "one/train-00000-of-00002.parquet", "one/train-00001-of-00002.parquet",
             "one/validation_matched-00000-of-00001.parquet"]  # fmt: skip
    assert served.downloaded() == {f"own/rows/{name}" for name in names}
    record = read_json(tmp_path / "out" / "source.json")
    assert record["revision"] == commit_of("own/rows")
    assert sorted(record["files"]) == names
    assert all(set(file) == {"sha256", "size"} for file in record["files"].values())


def test_options_that_a_repository_states_for_its_files_are_kept(served: FakeHub, tmp_path: Path) -> None:
    folder = tmp_path / "separated"
    folder.mkdir()
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  sep: ';'\n"
        "  data_files: [{split: train, path: a.csv}, {split: test, path: b.csv}]\n---\n"
    )
    for name, split in (("a", "train"), ("b", "test")):
        ROWS[split].to_csv(folder / f"{name}.csv", sep=";", index=False)
    served.add("own/separated", folder, "datasets")
    data = {"hub": {"repo": "own/separated", "revision": "main"}, "splits": {**SPLITS, "test": "test"}}
    fetch_data(data, TASK, tmp_path / "out")
    pd.testing.assert_frame_equal(rows_of(tmp_path / "out", "test"), ROWS["test"])


def test_a_repository_without_a_description_is_read_by_its_files_names(served: FakeHub, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    for split in ("train", "test"):
        ROWS[split].to_json(plain / f"{split}.jsonl", orient="records", lines=True)
    served.add("own/plain", plain, "datasets")
    data = {"hub": {"repo": "own/plain", "revision": "main"}, "splits": {"validation": "test", "test": "test[:5]"}}
    fetch_data(data, TASK, tmp_path / "out")
    pd.testing.assert_frame_equal(rows_of(tmp_path / "out", "test"), ROWS["test"].iloc[:5])


def test_offline_the_cache_gives_the_same_bytes(
    served: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch_data(source(), TASK, tmp_path / "out")
    served.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    fetch_data(source(), TASK, tmp_path / "again")
    for file in (tmp_path / "out").iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()
    assert not served.requests


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (source("three"), ("own/rows", "three", "one")),
        (source(None), ("own/rows", "onfig", "one")),
        (source(test="validation"), ("no split 'validation'", "validation_matched", "splits in the suite")),
        (source(train="train[:90"), ("train[:90",)),
    ],
    ids=["config", "no config", "split", "slice"],
)
def test_what_the_repository_has_not_is_named(
    served: FakeHub, tmp_path: Path, data: dict[str, Any], words: tuple[str, ...]
) -> None:
    with pytest.raises(UserError) as caught:
        fetch_data(data, TASK, tmp_path / "out")
    one_sentence(caught.value, "own/rows", *words)
    assert not list((tmp_path / "out").glob("test*"))


def test_a_file_that_is_no_parquet_is_named(served: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "repository/one/train-00000-of-00002.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(UserError) as caught:
        fetch_data(source(), TASK, tmp_path / "out")
    one_sentence(caught.value, "own/rows", "cannot be read")
    assert not (tmp_path / "out").exists()
