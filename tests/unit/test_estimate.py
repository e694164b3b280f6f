"""The command `estimate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import large_suite
from twin_merging.__main__ import main
from twin_merging.plan.estimate import all_jobs, estimate
from twin_merging.plan.resources import RULES, of_job
from twin_merging.suite.suite import load_suite

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _in_the_clone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def estimated(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main(["estimate", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_glue_takes_what_a_run_of_its_real_size_took(capsys: pytest.CaptureFixture[str]) -> None:
    """docs/hub.md: 4.5 GB to fetch beside the data; 10.3 GB of vectors and models."""
    found = estimated(capsys, "glue")
    assert found["fetched"] == pytest.approx(4.6e9, rel=0.1)
    folders = {name.rpartition("/")[2]: size for name, size in found["disk"]["folders"].items()}
    made = folders["task_vectors"] + folders["exclusive"] + folders["models"]
    assert made == pytest.approx(10.3e9, rel=0.15)
    assert {source["name"]: source["known"] for source in found["sources"]} == {
        "base": ["suite"],
        "experts": ["suite"],
        "data": ["default"],
    }


def test_qwen_holds_the_base_once_and_each_static_model(capsys: pytest.CaptureFixture[str]) -> None:
    found = estimated(capsys, "qwen", "--gpus", "1")
    assert found["parameters"] == pytest.approx(14.2e9, rel=0.01)
    assert found["disk"]["folders"]["results/qwen/models"] == pytest.approx(8 * 28.3e9, rel=0.05)
    rules = {rule["rule"]: rule for rule in found["rules"]}
    assert rules["predict"]["gpu"] == 1
    assert rules["merge_decoder"]["gpu"] == 0
    assert 30_000 < rules["predict"]["mem_mb"] < 120_000  # the body alone has 27,000
    assert rules["merge_decoder"]["mem_mb"] < 8_000  # it streams
    assert rules["predict"]["runtime"] < 24 * 60


def test_it_asks_by_the_function_of_the_workflow_and_the_configuration(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "suites/large.yaml"
    file.parent.mkdir()
    file.write_text(large_suite())
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config.yaml").write_text("suites: suites\nthreads: {merge: 2}\ngpus: 3\n")
    monkeypatch.chdir(tmp_path)
    found, suite = estimated(capsys, "large"), load_suite(file)
    asked = [of_job(suite, rule, {"suite": "large", **w}, {"merge": 2}, gpus=3) for rule, w in all_jobs(suite)]
    assert found["jobs"]["count"] == len(asked)
    assert max(rule["mem_mb"] for rule in found["rules"]) == max(each.mem_mb for each in asked)
    assert found["longest"][0]["runtime"] == max(each.runtime for each in asked)
    assert {rule["gpu"] for rule in found["rules"]} == {0, 3}


def test_a_lines_worth_for_every_folder_and_rule(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", "quickstart"]) == 0
    text = capsys.readouterr().out
    found = estimate(load_suite(ROOT / "config/suites/quickstart.yaml"))
    for name in (*found["disk"]["folders"], *(rule["rule"] for rule in found["rules"])):
        assert f"  {name} " in text
    assert "to fetch from the Hub: 0 B" in text
    assert "computed: it is made here" in text
    assert {rule["rule"] for rule in found["rules"]} <= set(RULES)


def test_times_are_said_to_be_for_threads_and_gpus(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", "qwen", "--threads", "predict=4", "--threads", "merge=2"]) == 0
    text = capsys.readouterr().out
    assert "times are for 1 thread a job (2 for merge, 4 for predict), no GPU\n" in text
    assert "route_features/task-arithmetic/last takes days without a GPU; with --gpus 1: " in text
    assert main(["estimate", "qwen", "--gpus", "1"]) == 0
    text = capsys.readouterr().out
    assert "times are for 1 thread a job, 1 GPU for jobs that run a model\n" in text
    assert "without a GPU" not in text
    slow, fast = (estimated(capsys, "glue", *more)["jobs"]["expected"] for more in ([], ["--threads", "predict=4"]))
    assert fast < slow


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("predct=2", "error: --threads: unknown key 'predct' (did you mean 'predict'?); allowed: compress, "),
        ("predict", "error: --threads: predict: '' is not a whole number"),
        ("predict=0", "error: --threads: predict: 0 must be at least 1"),
    ],
)
def test_wrong_threads_are_one_sentence(capsys: pytest.CaptureFixture[str], given: str, sentence: str) -> None:
    assert main(["estimate", "glue", "--threads", given]) == 1
    caught = capsys.readouterr()
    assert caught.err.startswith(sentence)
    assert caught.err.count("\n") == 1


def test_more_rows_models_and_tasks_take_more() -> None:
    small, large = (estimate(load_suite(ROOT / f"config/suites/{name}.yaml")) for name in ("quickstart", "glue"))
    assert large["disk"]["total"] > 100 * small["disk"]["total"]
    assert large["jobs"]["expected"] > small["jobs"]["expected"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("gleu", "error: config/suites: unknown suite 'gleu' (did you mean 'glue'?); allowed: glue, "),
        ("nowhere/a.yaml", "error: nowhere: holds no suites; start in a folder that has config/suites, or name a file"),
    ],
)
def test_a_wrong_name_is_one_sentence(capsys: pytest.CaptureFixture[str], name: str, sentence: str) -> None:
    assert main(["estimate", name]) == 1
    caught = capsys.readouterr()
    assert caught.out == ""
    assert caught.err.startswith(sentence)
    assert caught.err.count("\n") == 1
