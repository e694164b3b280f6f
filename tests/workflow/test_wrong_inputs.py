"""What is wrong in a configuration, a suite or a source stops the run with one sentence."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.workflow.changes import edit
from tests.workflow.faulty import copied
from tests.workflow.running import make_working_folder, snakemake

pytestmark = pytest.mark.workflow

TABLE = "results/tables/mine.csv"


def test_a_misspelt_key_is_one_line_and_starts_no_job(tiny: Path, tmp_path: Path) -> None:
    folder = make_working_folder(tmp_path / "run")
    shutil.copytree(tiny / "suites", folder / "suites")
    edit("suites/mine.yaml", "labels: 2\n    metric: accuracy", "labels: 2\n    metrik: accuracy")(folder)
    run = snakemake(folder, "--config", "suites=suites", "--", TABLE)
    assert run.returncode != 0
    errors = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "suites/mine.yaml: tasks.one: unknown key 'metrik' (did you mean 'metric'?); allowed: " in errors[0]
    assert "Traceback" not in run.stderr
    assert not (folder / "results").exists()


def test_a_wrong_configuration_value_or_a_missing_suite_is_one_line(tmp_path: Path) -> None:
    folder = make_working_folder(tmp_path / "run")
    run = snakemake(folder, "--config", "suits=x", "--", TABLE)
    assert run.returncode != 0
    assert "unknown key 'suits' (did you mean 'suites'?)" in run.stderr
    run = snakemake(folder, "--config", f"suites={tmp_path}", "--", TABLE)
    assert run.returncode != 0
    assert "mine.yaml: no such file" in run.stderr


def test_a_broken_expert_ends_with_one_sentence_and_leaves_no_output(finished: Path, tmp_path: Path) -> None:
    folder = copied(finished, tmp_path / "run")
    output = folder / "results/mine/experts/two"
    shutil.rmtree(output)
    weights = folder / "inputs/experts/two/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    run = snakemake(folder, "--", "results/mine/experts/two/model.safetensors")
    assert run.returncode != 0
    sentences = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert len(sentences) == 1
    assert "experts/two/model.safetensors: not a whole safetensors file" in sentences[0]
    assert list(output.glob("*")) == []
