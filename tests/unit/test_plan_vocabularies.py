"""What a suite's key `vocabulary` changes of a plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.plans import edited, stale, suite_of
from tests.suites import SUITE as WHOLE
from tests.suites import refused
from twin_merging.plan import inputs, settings
from twin_merging.suite.suite import Suite

SUITE = """
title: Two tasks
base: {hub: {repo: a/base}}
tasks:
  one: {data: {hub: {repo: a/data}}, labels: 2, metric: accuracy, expert: {path: ROOT/one}}
  two: {data: {hub: {repo: a/data}}, labels: 2, metric: accuracy, expert: {hub: {repo: a/two}}}
  own: {data: {hub: {repo: a/data}}, labels: 2, metric: accuracy, expert: {finetune: {epochs: 1, learning_rate: 0.1}}}
methods:
  sum: {method: task_arithmetic, scaling: 0.3}
"""


def suite(folder: Path, **edits: Any) -> Suite:
    (folder / "one").mkdir(exist_ok=True)
    (folder / "one" / "config.json").write_text("{}")
    return suite_of(folder, edited(SUITE.replace("ROOT", str(folder)), edits))


def of_base(found: Suite) -> Any:
    return settings.of_job(found, "fetch_base", {})


def test_without_it_a_base_is_fetched_alone(tmp_path: Path) -> None:
    found = suite(tmp_path)
    assert found.says.vocabulary == "error"
    assert "vocabulary" not in of_base(found)
    assert "aligned" not in settings.of_job(found, "fetch_expert", {"task": "one"})
    assert inputs.base_source(found, {}) == []


@pytest.mark.parametrize("rule", ["union", "subtokens"])
def test_a_base_follows_all_experts_that_are_fetched(rule: str, tmp_path: Path) -> None:
    found = suite(tmp_path, vocabulary=rule)
    said = of_base(found)["vocabulary"]
    assert said["rule"] == rule
    assert list(said["experts"]) == ["one", "two"]
    assert said["experts"]["one"]["source"] == {"path": str(tmp_path / "one")}
    assert inputs.base_source(found, {}) == [str(tmp_path / "one" / "config.json")]
    assert inputs.base_locks(found, {}) == [str(tmp_path)]
    assert settings.of_job(found, "fetch_expert", {"task": "two"})["aligned"] is True
    other = suite(tmp_path, vocabulary=rule, **{"tasks/two/expert/hub/repo": "a/other"})
    assert "fetch_base()" in stale(found, other)
    assert "fetch_base()" not in stale(suite(tmp_path), suite(tmp_path, **{"tasks/two/expert/hub/repo": "a/other"}))


def test_by_rule_base_experts_alone_are_changed(tmp_path: Path) -> None:
    before, found = suite(tmp_path), suite(tmp_path, vocabulary="base")
    assert stale(before, found) == {"fetch_expert(one)", "fetch_expert(two)", "snapshot()"}


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, edited(WHOLE, {"vocabulary": "unite"}), "vocabulary: unknown value 'unite'", "did you mean")
    made = {"base": {"generate": {}}, "vocabulary": "union"}
    refused(tmp_path, edited(WHOLE, made), "vocabulary: 'union'", "it is made here; allowed: error, base")
