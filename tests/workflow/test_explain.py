"""`make explain`: which jobs would run, and why, in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.workflow.changes import delete, edit, several, statement
from tests.workflow.conftest import targets
from tests.workflow.faulty import copied
from tests.workflow.running import snakemake

pytestmark = pytest.mark.workflow


@pytest.fixture
def folder(placeholders: Path, tmp_path: Path) -> Path:
    return copied(placeholders, tmp_path / "run")


def explain(folder: Path, *wanted: str) -> list[str]:
    environment = {"PYTHONPATH": f"{folder}/workflow/loggers:{folder}/src"}
    run = snakemake(
        folder, "--dry-run", "--logger", "explain", "--", *(wanted or targets("mine")), environment=environment
    )
    return run.stdout.splitlines()


def test_nothing_to_do_is_said(folder: Path) -> None:
    assert explain(folder) == ["nothing to do"]


def test_each_job_has_a_line_with_its_reason_in_the_order_of_the_stages(folder: Path) -> None:
    several(
        edit("config/suites/mine.yaml", "epochs: 3, batch_size: 16", "batch_size: 8, epochs: 4"),
        edit("config/suites/mine.yaml", "  emr:", "  ties: {method: ties, density: 0.2}\n  emr:"),
        statement("src/twin_merging/merging/methods/regression.py"),
        delete("results/mine/models/dare-ties/private"),
    )(folder)
    ties = "results/mine/models/ties"
    assert explain(folder, "results/mine/scores.csv", "results/mine/models/dare-ties/private") == [
        "merge dare-ties: not there: results/mine/models/dare-ties/private",
        "merge regmean: code changed",
        f"merge ties: not there: {ties}/config.json, {ties}/merge.json, {ties}/model.safetensors and 3 more",
        "route task-arithmetic: settings changed (router.epochs: 3 -> 4; router.batch_size: 16 -> 8)",
        "assemble twin: after route task-arithmetic",
        "predict dare-ties: after merge dare-ties",
        "predict regmean: after merge regmean",
        "predict ties: not there: results/mine/predictions/ties.parquet",
        "predict twin: after assemble twin",
        "score: after predict dare-ties, predict regmean, predict ties, predict twin",
        "10 jobs would run",
    ]


def test_a_changed_title_is_shown_whatever_words_are_in_it(folder: Path) -> None:
    edit("config/suites/mine.yaml", "Two tiny tasks", "\"Two; before: 'two', now: 'two'\"")(folder)
    assert explain(folder)[-2:] == [
        "tabulate: settings changed (title: Two tiny tasks -> Two; before: 'two', now: 'two')",
        "3 jobs would run",
    ]


def test_an_error_is_shown_and_nothing_said_of_jobs(folder: Path) -> None:
    delete("config/suites/mine.yaml")(folder)
    assert explain(folder) == []
