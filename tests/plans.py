"""What a change of a suite makes stale, as far as its plan says: without Snakemake, and without a file of results."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from twin_merging.plan import settings
from twin_merging.plan.targets import jobs
from twin_merging.suite.suite import Suite, load_suite

REMOVED: Any = object()


def edited(text: str, edits: Mapping[str, Any]) -> dict[str, Any]:
    """A suite's text as data, with values in place of those at paths such as `tasks/one/labels`."""
    content = yaml.safe_load(text)
    for path, value in edits.items():
        *folders, last = path.split("/")
        place = content
        for folder in folders:
            place = place[folder]
        if value is REMOVED:
            del place[last]
        else:
            place[last] = copy.deepcopy(value)
    return content


def suite_of(folder: Path, content: str | dict[str, Any], name: str = "mine") -> Suite:
    file = folder / f"{name}.yaml"
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
    return load_suite(file)


def planned(suite: Suite) -> dict[str, str]:
    """Every job of a suite's tables, as `rule(names)`, with its settings. Settings that differ in the order of keys
    differ."""
    return {
        f"{rule}({'/'.join(wildcards.values())})": repr(settings.of_job(suite, rule, wildcards))
        for rule, wildcards in jobs(suite)
    }


def stale(before: Suite, after: Suite) -> set[str]:
    """Jobs that have other settings, or that are new."""
    old = planned(before)
    return {job for job, found in planned(after).items() if old.get(job) != found}
