"""A suite that asks something of lm-eval, from its sources to its audit; and what is said where lm-eval is missing.

Where lm-eval is installed (requirements-lm-eval.lock) it is run, elsewhere the first test is all that there is."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.tiny_decoders import make_decoder_suite
from tests.workflow.running import hashes_of, jobs_of, make_working_folder, snakemake
from twin_merging.io.files import read_json

pytestmark = pytest.mark.workflow
IS_INSTALLED = find_spec("lm_eval") is not None

MODELS = ["pretrained", "weight-average", "task-arithmetic", "twin", "expert-echo", "expert-next"]
TABLE, AUDIT = "results/tables/written-lm-eval.csv", "results/audit/written.json"
TASK = """
task: echoed
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/rows.jsonl}}}}
output_type: generate_until
test_split: test
doc_to_text: "{{{{word}}}} {{{{other}}}} after"
doc_to_target: "{{{{reply}}}}"
generation_kwargs: {{until: [" {stop}", "{stop}"], max_gen_toks: 3}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite, and the task file that asks the same of the same rows as its task `echo`."""
    root = tmp_path_factory.mktemp("decoders")
    file = make_decoder_suite(root)
    (stop,) = yaml.safe_load(file.read_text())["tasks"]["echo"]["generation"]["stop"]
    (root / "tasks").mkdir()
    shutil.copy(root / "data" / "echo" / "test.jsonl", root / "tasks" / "rows.jsonl")
    (root / "tasks" / "echoed.yaml").write_text(TASK.format(folder=root / "tasks", stop=stop))
    with open(file, "a") as stream:
        stream.write(f"lm_eval: {{tasks: [echoed], include_path: {root}/tasks, limit: 12, batch_size: 5}}\n")
    return file


@pytest.mark.skipif(IS_INSTALLED, reason="lm-eval is installed")
def test_without_lm_eval_one_line_says_so_before_any_job(suite: Path, tmp_path: Path) -> None:
    folder, config = make_working_folder(tmp_path / "run"), ("--config", f"suites={suite.parent}")
    run = snakemake(folder, "--dry-run", *config, "--", TABLE)
    assert run.returncode == 1
    assert [line for line in run.stderr.splitlines() if line.startswith("error: ")] == [
        f"error: {suite}: key 'lm_eval' needs the library lm-eval, which is not installed: "
        'pip install "twin-merging[lm-eval]" (docs/lm-eval.md)'
    ]
    assert not jobs_of(run)
    run = snakemake(folder, "--dry-run", *config, "--", "results/tables/written.csv")
    assert run.returncode == 0, run.stderr
    assert not [rule for rule, _ in jobs_of(run) if rule.startswith("lm_eval")]


@pytest.mark.skipif(not IS_INSTALLED, reason="lm-eval is not installed")
def test_lm_eval_finds_what_the_suite_finds_on_the_same_rows(suite: Path, tmp_path: Path) -> None:
    folder, config = make_working_folder(tmp_path / "run"), ("--config", f"suites={suite.parent}")
    run = snakemake(folder, *config, "--", TABLE, AUDIT)
    assert run.returncode == 0, run.stderr
    table = pd.read_csv(folder / TABLE)
    assert table["model"].tolist() == MODELS
    scores = pd.read_csv(folder / "results/written/scores.csv").query("task == 'echo'")
    assert table["value"].tolist() == pytest.approx(scores.set_index("model")["value"][MODELS].tolist(), abs=1e-6)
    assert table.set_index("model")["value"]["expert-echo"] == 1
    report = read_json(folder / AUDIT)
    assert report["verdict"] == "passed"
    assert "cells from lm-eval's results" in next(c["summary"] for c in report["checks"] if c["name"] == "tables")

    before = hashes_of(folder / "results")
    run = snakemake(folder, *config, "--forcerun", "results/written/lm_eval/twin.json", "--", TABLE)
    assert run.returncode == 0, run.stderr
    assert hashes_of(folder / "results") == before

    rows = suite.parents[1] / "tasks" / "rows.jsonl"
    rows.write_text(rows.read_text().replace("w1", "w2"))
    run = snakemake(folder, "--dry-run", *config, "--", TABLE, "results/tables/written.csv")
    assert jobs_of(run) == {("lm_eval_table", ""), *(("lm_eval", model) for model in MODELS)}
