"""Folders with any signs in their names, and no home folder. The jobs write placeholders."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.workflow.conftest import make_suites, targets
from tests.workflow.placeholders import with_placeholders
from tests.workflow.running import jobs_of, snakemake
from twin_merging.io.files import write_json

pytestmark = pytest.mark.workflow

NAMES = ["run{1}", "a {best} <of> [3]*?", "{suite}'s }${HOME} %s #é", '{ {task,.+} \\ "quoted"; & ~']
WANTED = [*targets("mine", "made"), "results/audit/mine.crate.zip"]


def renamed(content: Any, before: str, after: str) -> Any:
    """A suite's content with other paths."""
    if isinstance(content, dict):
        return {key: renamed(value, before, after) for key, value in content.items()}
    if isinstance(content, str) and content.startswith(before):
        return after + content.removeprefix(before)
    return content


def make_odd(place: Path, sources: str) -> Path:
    """A working folder in `place`, with its suites in `place`/suites, and their models and data in folder `sources`."""
    folder = with_placeholders(make_suites(place / "work"))
    shutil.move(folder / "inputs", folder / sources)
    shutil.move(folder / "config/suites", place / "suites")
    suite = place / "suites" / "mine.yaml"
    suite.write_text(yaml.safe_dump(renamed(yaml.safe_load(suite.read_text()), "inputs", sources), sort_keys=False))
    write_json(place / "suites" / "mine.lock.json", {"sources": {}})
    config = folder / "config" / "config.yaml"
    config.write_text(yaml.safe_dump({**yaml.safe_load(config.read_text()), "suites": str(place / "suites")}))
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_a_suite_runs_and_goes_stale_in_folders_of_any_name(tmp_path: Path, name: str) -> None:
    folder = make_odd(tmp_path / name, sources=f"in {name}")
    run = snakemake(folder, "--", *WANTED)
    assert run.returncode == 0, run.stderr[-3000:]
    assert all((folder / path).is_file() for path in WANTED)
    again = snakemake(folder, "--", *WANTED)
    assert "Nothing to be done" in again.stderr, again.stderr[-3000:]
    (base,) = (folder / f"in {name}").glob("base/config.json")
    base.write_text(base.read_text() + "\n")
    changed = snakemake(folder, "-n", "--", *WANTED)
    assert ("fetch_base", "") in jobs_of(changed, "mine")


@pytest.mark.parametrize("stray", [b"a{b}.txt", b"<x>.md", b"line\nbreak", b"caf\xe9.txt", "e\u0301 é.txt".encode()])
def test_a_source_may_hold_files_of_any_name(tmp_path: Path, stray: bytes) -> None:
    folder = with_placeholders(make_suites(tmp_path))
    with open(bytes(folder / "inputs" / "base") + b"/" + stray, "wb") as stream:
        stream.write(b"notes")
    wanted = "results/mine/base/config.json"
    run = snakemake(folder, "--", wanted)
    assert run.returncode == 0, run.stderr[-3000:]
    again = snakemake(folder, "--", wanted)
    assert "Nothing to be done" in again.stderr, again.stderr[-3000:]


def without_home(tmp_path: Path) -> dict[str, str]:
    """No folder for caches can be made in this home."""
    (tmp_path / "home").write_text("")
    return {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": ""}


def test_no_home_folder_is_needed(tmp_path: Path) -> None:
    folder = with_placeholders(make_suites(tmp_path / "work"))
    run = snakemake(folder, "--", "results/mine/base/config.json", environment=without_home(tmp_path))
    assert run.returncode == 0, run.stderr[-3000:]
    assert not (folder / ".snakemake" / "source-cache").exists()


def test_with_a_profile_that_lacks_the_line_the_cache_can_be_put_elsewhere(tmp_path: Path) -> None:
    folder = with_placeholders(make_suites(tmp_path / "work"))
    profile = folder / "profiles" / "default" / "profile.yaml"
    profile.write_text(re.sub("^shared-fs-usage: .*\n", "", profile.read_text(), flags=re.M))
    wanted = ("--", "results/mine/base/config.json")
    assert snakemake(folder, *wanted, environment=without_home(tmp_path)).returncode != 0
    elsewhere = {**without_home(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    run = snakemake(folder, *wanted, environment=elsewhere)
    assert run.returncode == 0, run.stderr[-3000:]
