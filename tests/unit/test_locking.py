"""Locks: commits go into the suite's text in place, hashes beside it, and what changed since is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_hub import FakeHub, commit_of, used_here
from tests.messages import one_sentence
from twin_merging.errors import UserError
from twin_merging.io.files import read_json
from twin_merging.suite.locking import lock_suite
from twin_merging.suite.locks import left_out, lock_file, locked_files, locked_sizes
from twin_merging.suite.suite import Suite, load_suite

COMMIT = commit_of("own/experts")
# Flow and block style, comments, an anchor with a merge key, a revision that is left out, and one in quotes.
SUITE = """\
# What this is about.
title: Two tasks  # of mine
base:
  hub:
    repo: own/base  # a base
tasks:
  one:
    data: {path: data/one}
    labels: 2
    metric: accuracy
    expert: {hub: &expert {repo: own/experts, revision: main, subfolder: one}}
  two:
    data: {hub: {repo: own/data, config: two, revision: "main"}}  # rows
    labels: 2
    metric: accuracy
    expert:
      hub: {<<: *expert, subfolder: two}
router: {shared: sum, hub: {repo: own/router, tasks: [two, one]}}

methods:
  sum: {method: task_arithmetic, scaling: 0.3}
  twin: {method: twin, rank: 2}   # the last
"""


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    root = tmp_path / "repositories"
    files = {
        "base": {"config.json": "{}", "model.safetensors": "w", "tokenizer.json": "{}", "notes.pdf": "no"},
        "experts": {f"{t}/{n}": t for t in ("one", "two") for n in ("config.json", "pytorch_model.bin", "head.pt")},
        "data": {f"two/{split}.jsonl": '{"sentence": "a", "label": 0}\n' for split in ("train", "validation", "test")},
        "router": {"router.pt": "r"},
    }
    files["data"]["README.md"] = (
        "---\nconfigs:\n- config_name: two\n  data_files:\n"
        + "".join(f"  - split: {s}\n    path: two/{s}.jsonl\n" for s in ("train", "validation", "test", "extra"))
        + "---\n"
    )
    files["data"]["two/extra.jsonl"] = "{}\n"
    hub = FakeHub()
    for name, contents in files.items():
        for path, text in contents.items():
            place = root / name / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        hub.add(f"own/{name}", root / name, "datasets" if name == "data" else "models")
    with used_here(hub, tmp_path / "cache", monkeypatch):
        yield hub


def suite_in(folder: Path, text: str = SUITE) -> Suite:
    file = folder / "mine.yaml"
    file.write_text(text)
    return load_suite(file)


def test_commits_take_the_place_of_names_and_nothing_else_changes(served: FakeHub, tmp_path: Path) -> None:
    suite = suite_in(tmp_path)
    lines = lock_suite(suite)
    wanted = SUITE.replace("revision: main", f"revision: {COMMIT}")
    wanted = wanted.replace('revision: "main"', f'revision: "{commit_of("own/data")}"')
    wanted = wanted.replace("repo: own/base", f"repo: own/base\n    revision: {commit_of('own/base')}")
    for comment in ("# a base", "# rows"):  # a comment keeps its column, or else comes after one space
        wanted = wanted.replace(f"  {comment}", f" {comment}")
    wanted = wanted.replace("repo: own/router", f"repo: own/router, revision: {commit_of('own/router')}")
    assert suite.file.read_text() == wanted
    assert f"own/experts: main is commit {COMMIT}" in lines
    lock_suite(load_suite(suite.file))
    assert suite.file.read_text() == wanted


def test_a_lock_holds_the_files_that_a_fetch_takes_and_downloads_none_of_them(served: FakeHub, tmp_path: Path) -> None:
    suite = suite_in(tmp_path)
    lock_suite(suite)
    sources = read_json(lock_file(suite.file))["sources"]
    assert {key: sorted(entry["files"]) for key, entry in sources.items()} == {
        "base": ["config.json", "model.safetensors", "tokenizer.json"],
        "tasks.one.expert": ["one/config.json", "one/pytorch_model.bin"],
        "tasks.two.data": ["README.md", "two/test.jsonl", "two/train.jsonl", "two/validation.jsonl"],
        "tasks.two.expert": ["two/config.json", "two/pytorch_model.bin"],
        "router": ["router.pt"],
    }
    assert served.downloaded() == {"own/data/README.md"}
    assert sources["base"]["sizes"] == {"config.json": 2, "model.safetensors": 1, "tokenizer.json": 2}
    assert all(entry["sizes"].keys() == entry["files"].keys() for entry in sources.values())
    assert (
        locked_sizes(suite.file, ("base",), load_suite(suite.file).says.base.plain()["hub"]) == sources["base"]["sizes"]
    )


def test_a_job_finds_the_files_of_its_source_as_long_as_that_is_as_locked(served: FakeHub, tmp_path: Path) -> None:
    suite = suite_in(tmp_path)
    expert = suite.tasks["one"].expert.plain()
    assert locked_files([], "mine", "expert", expert) is None
    assert locked_files([str(tmp_path)], "mine", "expert", expert) is None
    lock_suite(suite)
    locked = load_suite(suite.file)
    assert locked_files([str(tmp_path)], "mine", "expert", expert) is None
    found = locked_files([str(tmp_path)], "mine", "expert", locked.tasks["one"].expert.plain())
    assert found is not None
    assert list(found) == ["one/config.json", "one/pytorch_model.bin"]
    assert left_out(locked.file, locked.content) == []
    suite.file.write_text(suite.file.read_text().replace("subfolder: one", "subfolder: three"))
    assert left_out(suite.file, load_suite(suite.file).content) == ["tasks.one.expert"]


def test_a_commit_that_yaml_would_read_as_a_number_is_put_in_quotes(served: FakeHub, tmp_path: Path) -> None:
    digits = "1234567890" * 4
    served.repositories["models", "own/experts"].revisions = {"main": digits}
    suite = suite_in(tmp_path)
    lock_suite(suite)
    assert f'revision: "{digits}"' in suite.file.read_text()
    assert load_suite(suite.file).tasks["two"].expert.plain()["hub"]["revision"] == digits


def test_a_revision_that_two_repositories_share_is_refused(served: FakeHub, tmp_path: Path) -> None:
    text = SUITE.replace("{<<: *expert, subfolder: two}", "{<<: *expert, repo: own/others}")
    served.add("own/others", served.repositories["models", "own/experts"].folder, main=commit_of("others"))
    suite = suite_in(tmp_path, text)
    with pytest.raises(UserError) as caught:
        lock_suite(suite)
    one_sentence(caught.value, "mine.yaml", "tasks.two.expert", "tasks.one.expert", "of its own")
    assert suite.file.read_text() == text
    assert not lock_file(suite.file).exists()


def test_a_source_that_is_not_there_leaves_the_suite_as_it_was(served: FakeHub, tmp_path: Path) -> None:
    suite = suite_in(tmp_path, SUITE.replace("own/router", "own/ruoter"))
    before = suite.file.read_text()
    with pytest.raises(UserError) as caught:
        lock_suite(suite)
    one_sentence(caught.value, "own/ruoter", "no such repository")
    assert suite.file.read_text() == before
    assert not lock_file(suite.file).exists()


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"sources": {"base": 1}})])
def test_a_damaged_lock_is_named(tmp_path: Path, text: str) -> None:
    suite = suite_in(tmp_path)
    lock_file(suite.file).write_text(text)
    with pytest.raises(UserError) as caught:
        left_out(suite.file, suite.content)
    one_sentence(caught.value, "mine.lock.json", "snakemake lock")
