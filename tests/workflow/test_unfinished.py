"""A job that failed or was killed is run again by the next call, with all below it, though their files are there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.workflow.changes import delete, several
from tests.workflow.conftest import targets
from tests.workflow.faulty import copied
from tests.workflow.running import hashes_of, jobs_of, snakemake
from tests.workflow.staleness import planned

pytestmark = pytest.mark.workflow

MERGED, RECORD = "results/made/models/merged", "results/made/records/merge/merged.json"
AFTER = {"predict", "score", "intervals", "snapshot", "card", "tabulate"}
BELOW = {"merge", "compress", "route_features", "route", "assemble", *AFTER}


@pytest.fixture
def folder(placeholders: Path, tmp_path: Path) -> Path:
    return copied(placeholders, tmp_path / "run")


def test_a_job_that_fails_once_runs_in_the_next_call_with_all_below_it(folder: Path, placeholders: Path) -> None:
    failed = snakemake(folder, "--forcerun", "merge", "--", *targets("made"), environment={"FAILING_RULE": "merge"})
    assert failed.returncode != 0
    assert not (folder / MERGED / "merge.json").exists()
    again = snakemake(folder, "--", *targets("made"))
    assert again.returncode == 0, again.stderr
    assert {rule for rule, _ in jobs_of(again)} == BELOW
    assert snakemake(folder, "--", *targets("made")).returncode == 0  # placeholders tell what their job has read
    assert hashes_of(folder / "results") == hashes_of(placeholders / "results")


def test_a_job_that_was_killed_before_it_wrote_anything_is_planned_with_all_below_it(folder: Path) -> None:
    several(delete(MERGED), delete(RECORD))(folder)
    assert {rule for rule, _ in planned(folder, "made")} == BELOW


def test_files_that_were_deleted_by_hand_are_not_made_again(folder: Path) -> None:
    delete(MERGED)(folder)
    assert planned(folder, "made") == set()


def test_after_that_call_tables_and_cards_are_written_once_more_and_then_nothing(folder: Path) -> None:
    several(delete(MERGED), delete(RECORD))(folder)
    assert snakemake(folder, "--", *targets("made")).returncode == 0
    assert {rule for rule, _ in planned(folder, "made")} == {"card", "tabulate"}
    assert snakemake(folder, "--", *targets("made")).returncode == 0
    assert planned(folder, "made") == set()
