"""A run with routers that read the base and raw text: one for two shared experts, and models that stand alone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from tests.tiny import tokenizer
from tests.workflow.changes import append, edit
from tests.workflow.faulty import copied
from tests.workflow.running import jobs_of, rules_of, snakemake
from twin_merging import TwinModel
from twin_merging.auditing.prediction_checks import check_predictions
from twin_merging.auditing.results import Results
from twin_merging.io.files import sha256

pytestmark = pytest.mark.workflow

MINE, TABLE = "config/suites/mine.yaml", "results/tables/mine.csv"
ROUTER = "{kind: mahalanobis, features: {of: base, layer: 1, segments: true, text: true}}"
TWINS = {"base-text": "task-arithmetic", "base-text-strict": "task-arithmetic-strict"}
MORE = f"""
  base-text: {{method: twin, shared: task-arithmetic, fraction: 0.25, router: {ROUTER}}}
  base-text-strict: {{method: twin, shared: task-arithmetic-strict, rank: 3, protocol: strict, router: {ROUTER}}}
"""
SCALING = ("task-arithmetic: {method: task_arithmetic, scaling: 0.29}", "scaling: 0.29", "scaling: 0.5")


def test_another_shared_expert_trains_no_router_of_the_base(placeholders: Path, tmp_path: Path) -> None:
    folder = copied(placeholders, tmp_path / "run")
    append(MINE, MORE)(folder)
    run = snakemake(folder, "--", TABLE)
    assert run.returncode == 0, run.stderr
    found = {job for job in jobs_of(run) if job[0].startswith("route")}
    name = "pretrained/mahalanobis-layer-1-segments-text"
    assert found == {("route_features", "pretrained/layer-1-segments-text"), ("route", name)}
    line, old, new = SCALING
    edit(MINE, line, line.replace(old, new))(folder)
    jobs = jobs_of(snakemake(folder, "--dry-run", "--", TABLE))
    assert ("assemble", "base-text") in jobs
    assert ("route_features", "task-arithmetic/last") in jobs, "the shared expert's own router is made again"
    assert not [job for job in jobs if "pretrained" in job[1]]


def test_two_models_share_a_router_and_stand_alone(finished: Path, tmp_path: Path) -> None:
    folder = copied(finished, tmp_path / "run")
    append(MINE, MORE)(folder)
    card = "results/mine/models/base-text/README.md"
    run = snakemake(folder, "--", TABLE, "results/mine/provenance.json", card)
    assert run.returncode == 0, run.stderr
    found = rules_of(run)
    assert {rule: found[rule] for rule in ("route_features", "route", "assemble", "predict")} == {
        "route_features": 1,
        "route": 1,
        "assemble": 2,
        "predict": 2,
    }
    assert "model(**batch, texts=TEXTS)" in (folder / card).read_text()
    assert "reads base-layer-1-segments-text" in (folder / card).read_text()
    assert check_predictions(Results(folder / "results", "mine"), rows=2).failures == []
    models = folder / "results/mine/models"
    files = {sha256(models / name / "router/model.safetensors") for name in TWINS}
    assert len(files) == 1
    rows: Any = pd.read_parquet(folder / "results/mine/data/two/test.parquet").head(3)
    answers: Any = pd.read_parquet(folder / "results/mine/predictions/base-text.parquet")
    own = answers[answers["task"] == "two"].head(3)
    written = torch.tensor([list(row) for row in own["weights"]], dtype=torch.float32)
    shutil.move(models / "base-text", tmp_path / "alone")
    shutil.rmtree(folder)
    model: Any = TwinModel.from_pretrained(tmp_path / "alone")
    texts = [rows[column].tolist() for column in ("premise", "hypothesis")]
    batch = tokenizer()(*texts, padding=True, return_tensors="pt")
    found_weights = model(**batch, texts=list(zip(*texts, strict=True))).weights
    torch.testing.assert_close(found_weights, written, rtol=1e-4, atol=1e-5)
