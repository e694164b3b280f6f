"""Sweeps and unseen tasks in a run: which jobs they add, and what their tables hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.workflow.changes import append
from tests.workflow.faulty import copied
from tests.workflow.running import jobs_of, rules_of, snakemake
from twin_merging.auditing.prediction_checks import check_predictions
from twin_merging.auditing.results import Results
from twin_merging.auditing.table_checks import check_statements, check_tables
from twin_merging.io.files import read_json, sha256

pytestmark = pytest.mark.workflow

MINE, TABLE = "config/suites/mine.yaml", "results/tables/mine.csv"
SWEEPS = """
  fractions: {method: twin, shared: task-arithmetic, sweep: {fraction: [0.1, 0.15, 0.2]}}
  first: {method: task_arithmetic, scaling: 0.29, sweep: {tasks: "1..2"}}
  firsts: {method: twin, shared: first, fraction: 0.25, sweep: {tasks: "1..2"}}
"""
UNSEEN = """
  of-one: {method: task_arithmetic, scaling: 0.29, protocol: strict, leave_out: [two]}
  twin-of-one: {method: twin, shared: of-one, rank: 3, protocol: strict, leave_out: [two], router: {kind: mahalanobis}}
  alone: {method: task_arithmetic, scaling: 0.29, protocol: strict, tasks: [one]}
"""


def test_a_sweep_adds_the_jobs_of_what_differs(placeholders: Path, tmp_path: Path) -> None:
    folder = copied(placeholders, tmp_path / "run")
    append(MINE, SWEEPS)(folder)
    run = snakemake(folder, "--dry-run", "--", TABLE)
    assert run.returncode == 0, run.stderr
    found = rules_of(run)
    wanted = {"merge": 2, "compress": 3, "route_features": 2, "route": 2, "assemble": 5, "predict": 7}
    assert {rule: found.pop(rule, 0) for rule in wanted} == wanted
    assert set(found.values()) == {1}  # score and the like, which are about all models together
    of_points = {job for job in jobs_of(run) if job[0] in ("merge", "compress", "route_features", "route")}
    assert of_points == {
        *(("merge", f"first-tasks-{count}") for count in (1, 2)),
        *(("compress", f"first-tasks-{count}/{task}") for count, task in ((1, "one"), (2, "one"), (2, "two"))),
        *(("route_features", f"first-tasks-{count}/last") for count in (1, 2)),
        *(("route", f"first-tasks-{count}") for count in (1, 2)),
    }


def test_unseen_tasks_are_answered_and_audited(finished: Path, tmp_path: Path) -> None:
    folder = copied(finished, tmp_path / "run")
    append(MINE, UNSEEN)(folder)
    card = "results/mine/models/twin-of-one/README.md"
    run = snakemake(folder, "--", TABLE, "results/mine/provenance.json", card)
    assert run.returncode == 0, run.stderr
    normalised: Any = pd.read_csv(folder / TABLE).set_index("model")
    unseen: Any = pd.read_csv(folder / "results/tables/mine-unseen.csv").set_index("model")
    models = ["of-one", "twin-of-one"]
    assert unseen.index.tolist() == ["pretrained", *models, "experts"]
    assert normalised.loc[[*models, "alone"], "two"].isna().all()
    assert (normalised.loc[models, "one"] == normalised.loc[models, "avg"]).all()
    scores: Any = pd.read_csv(folder / "results/mine/scores.csv").set_index(["model", "task"])
    for model in unseen.index[:-1]:
        assert unseen.loc[model, "two"] == pytest.approx(100 * scores.loc[(model, "two"), "value"], abs=1e-4)
    assert ("alone", "two") not in scores.index
    models_folder = folder / "results/mine/models"
    weights = [models_folder / model / "model.safetensors" for model in ("of-one", "alone", "twin-of-one")]
    assert len({sha256(file) for file in weights}) == 1
    manifest = read_json(models_folder / "twin-of-one/merge.json")
    assert (list(manifest["tasks"]), list(manifest["left_out"])) == (["one"], ["two"])
    assert "left out of the merge: two" in (folder / card).read_text()
    results = Results(folder / "results", "mine")
    for check in (check_tables, check_statements, lambda found: check_predictions(found, rows=2)):
        assert check(results).failures == []
