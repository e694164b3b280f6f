"""Jobs that were begun and never ended are found by what they have left: nothing, below which something is there."""

from __future__ import annotations

import pytest

from twin_merging.plan.unfinished import JobFiles, unfinished

JOBS = [
    JobFiles([], ["base", "record-base"]),
    JobFiles(["base"], ["vector", "record-vector"]),
    JobFiles(["base", "vector"], ["merged", "merged.json", "record-merged"]),
    JobFiles(["merged"], ["answers", "record-answers"]),
    JobFiles(["answers"], ["table", "record-table"]),
]
ALL = {path for job in JOBS for path in job.outputs}


@pytest.mark.parametrize(
    ("missing", "found"),
    [
        (set(), []),
        ({"merged", "merged.json", "record-merged"}, ["merged"]),
        ({"merged", "merged.json"}, []),  # deleted by hand: the record is there
        ({"merged", "merged.json", "record-merged", "answers", "record-answers"}, ["answers"]),
        ({"vector", "record-vector", "merged", "merged.json", "record-merged"}, ["merged"]),
        ({"table", "record-table"}, []),  # what is asked for is made anyhow
        (ALL, []),
    ],
)
def test_a_job_that_left_nothing_is_asked_for_where_a_reader_s_outputs_are_there(
    missing: set[str], found: list[str]
) -> None:
    assert unfinished(JOBS, lambda path: path in ALL - missing) == found
