"""What jobs ask of their machine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from twin_merging.plan import resources
from twin_merging.plan.resources import RULES, RUNS_A_MODEL
from twin_merging.plan.targets import jobs
from twin_merging.suite.suite import load_suite

ROOT = Path(__file__).parents[2]
SUITES = sorted((ROOT / "config" / "suites").glob("*.yaml"))
FILES = {file.name: file.read_text(encoding="utf-8") for file in (ROOT / "workflow" / "rules").glob("*.smk")}
OF_NO_SUITE = {"lock.smk"}
ASKED = ("mem_mb", "runtime", "disk_mb", "gpu")


def test_every_rule_is_in_the_table() -> None:
    text = "".join(content for name, content in FILES.items() if name not in OF_NO_SUITE)
    declared = re.findall(r"^rule (\w+):", text, re.MULTILINE) + re.findall(r"^use rule \w+ as (\w+)", text, re.M)
    assert set(declared) == set(RULES)


def test_every_rule_asks_by_its_own_name() -> None:
    for name, content in FILES.items():
        if name in OF_NO_SUITE:
            continue
        for block in re.split(r"^(?=(?:use )?rule )", content, flags=re.MULTILINE):
            if found := re.match(r"rule (\w+):", block):
                asked = re.findall(r'^        (\w+)=asked_for\("(\w+)", "(\w+)"\),$', block, re.MULTILINE)
                assert asked == [(what, found[1], what) for what in ASKED], found[1]


@pytest.mark.parametrize("file", SUITES, ids=lambda file: file.stem)
def test_every_job_of_a_shipped_suite_asks_for_something(file: Path) -> None:
    suite = load_suite(file)
    for rule, wildcards in jobs(suite):
        asked = resources.of_job(suite, rule, {"suite": suite.name, **wildcards}, gpus=1)
        assert min(asked.mem_mb, asked.runtime, asked.disk_mb) > 0, rule
        assert asked.gpu == (rule in RUNS_A_MODEL), rule


def test_each_attempt_asks_for_more() -> None:
    suite = load_suite(ROOT / "config" / "suites" / "glue.yaml")
    first, second = (
        resources.of_job(suite, "merge", {"suite": "glue", "method": "ties"}, attempt=attempt) for attempt in (1, 2)
    )
    assert second.mem_mb > first.mem_mb
    assert second.runtime > first.runtime
    assert (second.disk_mb, second.gpu) == (first.disk_mb, 0)
