"""Which jobs share a submission (plan/groups.py)."""

import re
from pathlib import Path

import pytest

from twin_merging.plan.folder import Suites
from twin_merging.plan.groups import GATHERED, GROUP_OF, group_of
from twin_merging.suite.suite import Suite

ROOT = Path(__file__).parents[2]
SUITES = Suites(str(ROOT / "config" / "suites"), None)


@pytest.fixture(scope="module")
def quickstart() -> Suite:
    return SUITES.named("quickstart")


def test_every_rule_that_asks_for_a_group_has_one() -> None:
    text = "".join(path.read_text() for path in (ROOT / "workflow" / "rules").glob("*.smk"))
    assert set(re.findall(r'together\("(\w+)"\)', text)) == set(GROUP_OF)


def test_short_jobs_stand_in_a_group_and_long_ones_in_none(quickstart: Suite) -> None:
    assert group_of(quickstart, "finetune", {"task": "sentiment"}, {}) == "experts"
    assert group_of(SUITES.named("minilm"), "finetune", {"task": "cola"}, {}) is None


def test_what_gathers_shards_stands_behind_them(quickstart: Suite) -> None:
    assert group_of(quickstart, "predict", {"model": "pretrained"}, {}) == "answers"
    assert group_of(quickstart, "predict", {"model": "pretrained"}, {}, shards=2) == GATHERED
