"""The same inputs, seed and versions give the same bytes: with other cores, in another order of jobs, in another
folder, with another seed of Python's hashes, in forks of one process or in processes of their own. Two suites: whole
and adapted experts, made here and given; all kinds of methods."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.workflow.conftest import make_suites, targets
from tests.workflow.running import hashes_of, snakemake

pytestmark = pytest.mark.workflow

LAST = "results/made/task_vectors/similarity.safetensors"


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The suites of `finished`, run in two calls that begin at other ends."""
    folder = make_suites(tmp_path_factory.mktemp("another place") / "with" / "a longer path")
    calls = [
        # one core, the last experts first, and each job a process of its own
        (1, "1", ["--scheduler", "greedy", "--config", "preload=false", "--", LAST]),
        (4, "2", ["--scheduler", "greedy", "--prioritize", *reversed(targets("mine")), "--", *targets("made", "mine")]),
    ]
    for cores, seed, arguments in calls:
        environment = {"PYTHONHASHSEED": seed, "TZ": "Asia/Kathmandu", "LC_ALL": "C"}
        run = snakemake(folder, *arguments, cores=cores, environment=environment)
        assert run.returncode == 0, run.stderr
    return folder


def test_every_file_has_the_same_bytes(finished: Path, other: Path) -> None:
    one, two = hashes_of(finished / "results"), hashes_of(other / "results")
    assert len(one) > 150
    assert sorted(one) == sorted(two)
    assert [path for path in one if one[path] != two[path]] == []
