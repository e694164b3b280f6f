"""What the provenance of a suite's tables is gathered from, and what a lock is to a fetch."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny import MADE
from twin_merging.plan import inputs, records, targets
from twin_merging.suite.suite import Suite, load_suite

FETCHED = """
title: t
base: {path: base}
tasks:
  one:
    data: {hub: {repo: own/data}}
    text: [sentence]
    labels: 2
    metric: accuracy
    expert: {path: one}
router: {shared: plain, hub: {repo: own/router, tasks: [one]}}
methods:
  plain: {method: task_arithmetic}
  twin: {method: twin, rank: 1}
"""


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def suite_of(text: str) -> Suite:
    Path("mine.yaml").write_text(text)
    return load_suite(Path("mine.yaml"))


@pytest.mark.parametrize("text", [MADE, FETCHED])
def test_each_job_has_a_record_of_its_own(text: str) -> None:
    suite = suite_of(text)
    found = records.records(suite, {})
    assert len(found) == len(set(found)) == len(targets.jobs(suite))


def test_a_record_lies_in_its_rules_folder_by_the_wildcards_of_its_job() -> None:
    job = ("compress", {"shared": "plain", "task": "one"})
    assert records.record_of(suite_of(FETCHED), job) == "results/mine/records/compress/plain/one.json"
    assert records.record_of(suite_of(FETCHED), ("score", {})) == "results/mine/records/score.json"


def test_sources_are_those_of_base_data_experts_and_fetched_routers() -> None:
    (router,) = [wildcards["router"] for rule, wildcards in targets.jobs(suite_of(FETCHED)) if rule == "fetch_router"]
    places = ("base", "data/one", "experts/one", f"router/{router}")
    assert records.sources(suite_of(FETCHED), {}) == [f"results/mine/{place}/source.json" for place in places]


def test_the_folder_of_a_suite_s_lock_is_read_by_its_fetches_from_the_hub() -> None:
    suite = suite_of(FETCHED)
    assert inputs.data_locks(suite, {"task": "one"}) == inputs.router_locks(suite, {}) == [str(suite.file.parent)]
    assert inputs.base_locks(suite, {}) == inputs.expert_locks(suite, {"task": "one"}) == []
    assert inputs.lock(suite, {}) == []
    Path("mine.lock.json").write_text('{"sources": {}}')
    assert inputs.lock(suite, {}) == ["mine.lock.json"]
