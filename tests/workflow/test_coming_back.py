"""Coming back costs nothing: what a job made is taken from the store by a job that would make the same, in a second
checkout and after a change that was changed back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.workflow.conftest import make_suites, targets
from tests.workflow.running import STORE, hashes_of, rules_of, snakemake
from twin_merging.io.files import read_json

pytestmark = pytest.mark.workflow

PREDICTIONS = "made/predictions/twin.parquet"  # of the results


def records(folder: Path) -> dict[str, bool]:
    """Whether each job of the suite was taken, by its rule and wildcards, from what its record says."""
    place = folder / "results/made/records"
    return {str(file.relative_to(place).with_suffix("")): "taken" in read_json(file) for file in place.rglob("*.json")}


@pytest.fixture(scope="module")
def second(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another checkout, whose runs read the store of `finished` and have written nothing into it."""
    folder = make_suites(tmp_path_factory.mktemp("second") / "checkout")
    before = {file: file.stat().st_mtime_ns for file in (finished / STORE / "files").rglob("*")}
    run = snakemake(folder, "--config", f"store_shared={finished / STORE}", "--", *targets("made"))
    assert run.returncode == 0, run.stderr
    assert {file: file.stat().st_mtime_ns for file in (finished / STORE / "files").rglob("*")} == before
    return folder


def test_a_second_checkout_runs_nothing_that_the_first_has_run(finished: Path, second: Path) -> None:
    found = records(second)
    assert len(found) > 20
    assert {name.split("/")[0] for name, was_taken in found.items() if not was_taken} == {"snapshot"}
    of_suite = {path: value for path, value in hashes_of(finished / "results").items() if "made" in path}
    assert {path: value for path, value in hashes_of(second / "results").items() if "made" in path} == of_suite


def test_no_file_is_shared_between_the_checkouts(finished: Path, second: Path) -> None:
    ours, theirs = (
        {(file.stat().st_dev, file.stat().st_ino) for file in (folder / "results").rglob("*") if file.is_file()}
        for folder in (second, finished)
    )
    assert ours & theirs == set()


def test_a_change_that_is_changed_back_runs_nothing_on_the_way_back(second: Path) -> None:
    suite = second / "config/suites/made.yaml"
    text, before, kept = suite.read_text(), hashes_of(second / "results"), records(second)
    assert "top_k: 1" in text
    suite.write_text(text.replace("top_k: 1", "top_k: 2"))
    there = snakemake(second, "--", *targets("made"))
    assert there.returncode == 0, there.stderr
    worked = {name for name, was_taken in records(second).items() if not was_taken}
    assert {"assemble/twin", "predict/twin", "score"} <= worked
    assert hashes_of(second / "results")[PREDICTIONS] != before[PREDICTIONS]
    suite.write_text(text)
    back = snakemake(second, "--", *targets("made"))
    assert back.returncode == 0, back.stderr
    assert rules_of(back) == rules_of(there)  # Snakemake starts the same jobs
    assert records(second) == kept
    assert hashes_of(second / "results") == before


def test_a_damaged_file_of_the_store_is_noticed_and_never_used(second: Path) -> None:
    before, scores = hashes_of(second / "results"), second / "results/made/scores.csv"
    (kept,) = (file for file in (second / STORE / "files").glob("*/*") if file.samefile(scores))
    with open(scores, "r+b") as stream:  # in place: the same file is the store's
        stream.write(b"M")
    scores.unlink()
    run = snakemake(second, "--", "results/made/scores.csv")
    assert run.returncode == 0, run.stderr
    said = f"{kept.name}: its content is not that of its name; the job runs"
    assert said in (second / "results/made/logs/score.log").read_text()
    assert not records(second)["score"]
    assert hashes_of(second / "results") == before
