"""A folder of suites: each file is read once, and a wrong one is in nobody's way until it is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.plans import edited, suite_of
from tests.unit.test_plan_settings import SUITE
from twin_merging.errors import UserError
from twin_merging.plan import folder as module
from twin_merging.plan.folder import Suites
from twin_merging.suite.suite import Suite


@pytest.fixture
def suites(tmp_path: Path) -> Suites:
    suite_of(tmp_path, SUITE, "own")
    suite_of(tmp_path, edited(SUITE, {"base": {"hub": {"repo": "a/b"}}}), "hub")
    (tmp_path / "wrong.yaml").write_text("titel: x\n")
    return Suites(str(tmp_path))


def test_a_file_is_read_once(suites: Suites, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    load = module.load_suite

    def noted(file: Path, glue: str | None) -> Suite:
        read.append(file.stem)
        return load(file, glue)

    monkeypatch.setattr(module, "load_suite", noted)
    for _ in range(2):
        assert [suite.name for suite in suites.readable()] == ["hub", "own"]
        assert suites.named("own") is suites.readable()[1]
        with pytest.raises(UserError, match=r"wrong\.yaml: unknown key 'titel'"):
            suites.named("wrong")
    assert sorted(read) == ["hub", "own", "wrong"]


def test_a_suite_that_is_not_there_is_named(suites: Suites) -> None:
    with pytest.raises(UserError, match=r"none\.yaml: no such file"):
        suites.named("none")


def test_suites_with_hub_sources_can_be_locked(suites: Suites, tmp_path: Path) -> None:
    assert [suite.name for suite in suites.to_lock("hub")] == ["hub"]
    with pytest.raises(UserError, match="no suite own with a Hub source to lock; name one: lock=SUITE"):
        suites.to_lock("own")
    with pytest.raises(UserError, match=r"wrong\.yaml"):
        suites.to_lock(None)
    (tmp_path / "wrong.yaml").unlink()
    assert [suite.name for suite in suites.to_lock(None)] == ["hub"]


def test_a_local_folder_stands_in_for_glue(suites: Suites, tmp_path: Path) -> None:
    glue = {"hub": {"repo": "nyu-mll/glue", "config": "rte"}}
    suite_of(tmp_path, edited(SUITE, {"tasks/own/data": glue}), "glue")
    found = Suites(str(tmp_path), "my/glue").named("glue").tasks["own"].data.plain()
    assert found["path"] == "my/glue/rte"
