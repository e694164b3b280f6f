"""Evaluation with lm-eval as far as it needs no lm-eval: what a suite says, what is planned, and the tables."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from tests.plans import REMOVED, edited, planned, stale, suite_of
from tests.suites import refused
from twin_merging.auditing.results import Findings
from twin_merging.auditing.table_checks import _check_lm_eval
from twin_merging.errors import UserError
from twin_merging.plan import inputs, records, targets
from twin_merging.plan import lm_eval as plan
from twin_merging.plan.warnings import warnings_of
from twin_merging.prediction import lm_eval as prediction
from twin_merging.reporting.lm_eval import write_lm_eval_tables

SUITE = """
title: Capitals
family: decoder
protocol: strict
base: {path: models/base}
tasks:
  capitals:
    data: {path: data/capitals}
    prompt: "The capital of {country} is"
    metric: exact_match
    expert: {path: models/capitals}
router: {shared: sum}
methods:
  sum: {method: task_arithmetic}
  twin: {method: twin, rank: 2}
lm_eval: {tasks: [arc_easy]}
"""
MODELS = ["pretrained", "sum", "twin", "expert-capitals"]


def of_lm_eval(key: str, value: Any) -> dict[str, Any]:
    return {f"lm_eval/{key}": value}


def test_what_a_suite_says_of_lm_eval_has_its_defaults(tmp_path: Path) -> None:
    suite = suite_of(tmp_path, SUITE)
    assert suite.content["lm_eval"] == {"tasks": ["arc_easy"], "limit": None, "batch_size": 16}
    assert suite.lm_eval_models == MODELS
    some = suite_of(tmp_path, edited(SUITE, of_lm_eval("models", ["expert-capitals", "twin"])))
    assert some.lm_eval_models == ["twin", "expert-capitals"]
    assert "lm_eval" not in suite_of(tmp_path, edited(SUITE, {"lm_eval": REMOVED})).content


@pytest.mark.parametrize(
    ("edits", "words"),
    [
        (
            of_lm_eval("models", ["twins"]),
            ("lm_eval.models: unknown model 'twins' (did you mean 'twin'?)", "pretrained"),
        ),
        (of_lm_eval("models", []), ("lm_eval.models: [] needs more entries",)),
        (of_lm_eval("tasks", []), ("lm_eval.tasks: [] needs more entries, at least 1",)),
        (of_lm_eval("tasks", ["a", "b", "a"]), ("lm_eval.tasks: 'a' stands twice; name it once",)),
        (of_lm_eval("tasks", "arc_easy"), ("lm_eval.tasks: 'arc_easy' is not a list",)),
        (of_lm_eval("limit", 0), ("lm_eval.limit: 0 must be at least 1",)),
        (of_lm_eval("num_fewshot", -1), ("lm_eval.num_fewshot: -1 must be at least 0",)),
        (of_lm_eval("trust_remote_code", True), ("lm_eval: unknown key 'trust_remote_code'", "allowed: batch_size, ")),
        ({"family": REMOVED, "lm_eval": {"tasks": ["a"]}}, ("unknown key 'lm_eval'",)),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, edits: dict[str, Any], words: tuple[str, ...]) -> None:
    refused(tmp_path, edited(SUITE, edits), *words)


def test_a_suite_s_targets_have_a_job_a_model_and_the_tables(tmp_path: Path) -> None:
    suite = suite_of(tmp_path, SUITE)
    tables = ["results/tables/mine-lm-eval.md", "results/tables/mine-lm-eval.csv"]
    assert set(tables) <= set(targets.tables(suite)) & set(targets.all_of(suite))
    found = targets.jobs(suite)
    assert [names for rule, names in found if rule == "lm_eval"] == [{"model": model} for model in MODELS]
    assert found[-1] == ("lm_eval_table", {})
    assert inputs.lm_eval_results(suite, {}) == [f"results/mine/lm_eval/{model}.json" for model in MODELS]
    assert records.record_of(suite, ("lm_eval", {"model": "twin"})) == "results/mine/records/lm_eval/twin.json"
    without = suite_of(tmp_path, edited(SUITE, {"lm_eval": REMOVED}))
    assert not [job for job in planned(without) if job.startswith("lm_eval")]
    assert not [path for path in targets.tables(without) if "lm-eval" in path]
    with pytest.raises(UserError, match=r"mine\.yaml: key 'lm_eval' is missing; say there which tasks"):
        inputs.lm_eval_results(without, {})


@pytest.mark.parametrize(
    ("edits", "wanted"),
    [
        (of_lm_eval("limit", 5), {f"lm_eval({model})" for model in MODELS}),
        (of_lm_eval("tasks", ["arc_easy", "piqa"]), {f"lm_eval({model})" for model in MODELS}),
        (of_lm_eval("models", MODELS), set()),
        (of_lm_eval("models", ["twin"]), {"lm_eval_table()"}),
        ({"tasks/capitals/generation": {"stop": ["."]}}, {f"predict({model})" for model in MODELS} | {"snapshot()"}),
        ({"title": "Others"}, {"tabulate()", "lm_eval_table()"}),
        (
            {"base/dtype": "bfloat16"},
            {f"{rule}({model})" for rule in ("predict", "lm_eval") for model in MODELS}
            | {"route_features(sum/last)", "snapshot()"},
        ),
    ],
    ids=["limit", "tasks", "all models", "one model", "a task's stop", "title", "dtype"],
)
def test_a_change_makes_stale_what_it_changes(tmp_path: Path, edits: dict[str, Any], wanted: set[str]) -> None:
    assert stale(suite_of(tmp_path, SUITE), suite_of(tmp_path, edited(SUITE, edits))) == wanted


def test_rows_of_lm_eval_s_own_tasks_are_warned_of(tmp_path: Path) -> None:
    (line,) = warnings_of(suite_of(tmp_path, SUITE))
    assert line.endswith("mine.yaml: lm_eval: lm-eval fetches its tasks' rows from the Hub, tied to no commit")
    assert warnings_of(suite_of(tmp_path, edited(SUITE, of_lm_eval("include_path", "tasks")))) == []


FILES = {
    "one.yaml": "task: one\ntag: [both, these]\nprocess_docs: !function code.change\n",
    "below/two.yaml": "include: _default\ntask: two\n",
    "below/_default": "tag: both\n",
    "group.yaml": "group: all\ntask: [one, two, elsewhere]\n",
    "code.py": "def change(rows): return rows\n",
    "rows.jsonl": "{}\n",
    "broken.yaml": "task: [\n",
    ".hidden": "x",
    "__pycache__/code.pyc": "x",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        Path("my-tasks", name).parent.mkdir(parents=True, exist_ok=True)
        Path("my-tasks", name).write_text(text)
    return tmp_path


def of_own_tasks(folder: Path, *tasks: str, path: str = "my-tasks") -> Any:
    return suite_of(folder, edited(SUITE, {"lm_eval": {"tasks": [*tasks], "include_path": path}}))


def test_every_file_beside_the_suite_s_own_tasks_is_an_input(folder: Path) -> None:
    found = inputs.lm_eval_files(of_own_tasks(folder, "one", "two", "all"), {"model": "twin"})
    assert found == sorted(f"my-tasks/{name}" for name in FILES if not name.startswith((".", "__")))
    assert inputs.lm_eval_files(of_own_tasks(folder, "both", "these"), {}) == found
    assert inputs.lm_eval_files(suite_of(folder, SUITE), {}) == []


def test_a_task_or_a_folder_that_is_not_there_is_said_before_any_job(folder: Path) -> None:
    with pytest.raises(UserError) as caught:
        inputs.lm_eval_files(of_own_tasks(folder, "one", "twoo"), {})
    said = str(caught.value)
    assert (
        "mine.yaml: lm_eval.tasks: unknown task 'twoo' (did you mean 'two'?); allowed: all, both, one, these, two"
        in said
    )
    with pytest.raises(UserError, match=r"lm_eval\.include_path: others: no such folder; put the task files there"):
        inputs.lm_eval_files(of_own_tasks(folder, "one", path="others"), {})


def missing(name: str) -> str:
    raise PackageNotFoundError(name)


def test_lm_eval_that_is_not_installed_is_said_with_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "version", missing)
    monkeypatch.setattr(prediction, "version", missing)
    said = r'not installed: pip install "twin-merging\[lm-eval\]" \(docs/lm-eval.md\)'
    with pytest.raises(UserError, match=rf"mine\.yaml: key 'lm_eval' needs the library lm-eval, which is {said}"):
        inputs.lm_eval_installed(suite_of(tmp_path, SUITE), {})
    model: Any = SimpleNamespace(needs_tasks=False, router=None)
    with pytest.raises(UserError, match=f"the library lm-eval is {said}"):
        prediction.evaluate_model(model, tmp_path, {"tasks": ["a"]}, tmp_path / "found.json")


def test_a_model_that_weighs_by_the_true_task_is_not_asked(tmp_path: Path) -> None:
    oracle = {"methods/oracle": {"method": "twin", "rank": 2, "shared": "sum", "weights": "oracle"}}
    suite = suite_of(tmp_path, edited(SUITE, oracle))
    assert suite.dynamic == ["twin", "oracle"]
    assert suite.lm_eval_models == MODELS
    with pytest.raises(
        UserError, match=r"lm_eval\.models: 'oracle' weighs by the true task, and a row of lm-eval is of"
    ):
        suite_of(tmp_path, edited(SUITE, {**oracle, "lm_eval/models": ["oracle"]}))


def test_a_model_that_has_to_be_told_the_task_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction, "version", lambda name: "0.4.13")
    for has_private, words in ((True, "has parameters of each task's own"), (False, "weighs by the true task")):
        model: Any = SimpleNamespace(needs_tasks=True, has_private=has_private, name_or_path="results/mine/models/sum")
        with pytest.raises(UserError, match=rf"models/sum: {words}, .* leave the model out of"):
            prediction.evaluate_model(model, tmp_path, {"tasks": ["a"]}, tmp_path / "found.json")
    assert list(tmp_path.iterdir()) == []


# As lm-eval gives them: two tasks, of which one stands in a group, and much that differs from run to run.
FOUND = {
    "results": {
        "one": {"name": "one", "alias": "one", "sample_len": 7, "acc,none": 0.25, "acc_stderr,none": 0.125},
        "two": {
            "alias": "two",
            "sample_len": 9,
            "exact_match,strict": 1,
            "exact_match_stderr,strict": "N/A",
            "perplexity,none": float("nan"),
            "perplexity_stderr,none": 0.5,
        },
        "all": {"alias": "all", "sample_len": 16, "acc,none": 0.25, "acc_stderr,none": 0.125},
    },
    "versions": {"one": 2, "two": "Yaml", "all": "N/A"},
    "n-samples": {"one": {"original": 100, "effective": 7}, "two": {"original": 9, "effective": 9}},
    "n-shot": {"one": 0, "two": 5},
    "higher_is_better": {"one": {"acc": True}, "two": {"exact_match": True, "perplexity": False}, "all": {"acc": True}},
    "config": {"random_seed": 0, "numpy_seed": 1, "torch_seed": 2, "fewshot_seed": 3, "model": "/a/place"},
    "date": 1.5,
    "total_evaluation_time_seconds": "3",
}


def test_results_hold_what_is_the_same_in_every_run() -> None:
    found = prediction.results_of(FOUND, "0.4.13")
    assert [*found] == ["lm_eval", "seeds", "tasks"]
    assert found["seeds"] == {"random_seed": 0, "numpy_seed": 1, "torch_seed": 2, "fewshot_seed": 3}
    assert found["tasks"]["one"] == {
        "version": 2,
        "rows": 7,
        "of": 100,
        "num_fewshot": 0,
        "metrics": [{"metric": "acc", "filter": "none", "value": 0.25, "stderr": 0.125, "higher_is_better": True}],
    }
    two = found["tasks"]["two"]["metrics"]
    assert [(m["filter"], m["value"], m["stderr"]) for m in two] == [("strict", 1.0, None), ("none", None, 0.5)]
    assert (found["tasks"]["all"]["rows"], found["tasks"]["all"]["of"]) == (16, None)
    assert "place" not in json.dumps(found)


def write_tables(folder: Path) -> dict[str, Path]:
    """The tables of two stored results, in `results/tables` of a folder."""
    outputs = {"csv": folder / "tables" / "mine-lm-eval.csv", "markdown": folder / "tables" / "mine-lm-eval.md"}
    for file in (folder / "mine" / "lm_eval" / f"{model}.json" for model in ("pretrained", "twin")):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(prediction.results_of(FOUND, "0.4.13")))
    outputs["csv"].parent.mkdir()
    knowledge = {"pretrained": "nothing", "twin": "nothing"}
    results = {model: folder / "mine" / "lm_eval" / f"{model}.json" for model in knowledge}
    write_lm_eval_tables(title="Mine", results=results, knowledge=knowledge, outputs=outputs)
    return outputs


def test_tables_have_a_line_for_each_model_task_metric_and_filter(tmp_path: Path) -> None:
    outputs = write_tables(tmp_path)
    table = pd.read_csv(outputs["csv"], keep_default_na=False, dtype=str)
    assert [*table] == ["model", "task", "metric", "filter", "value", "stderr", "rows", "num_fewshot", "true_task"]
    assert table["model"].tolist() == ["pretrained"] * 4 + ["twin"] * 4
    assert table.iloc[0].tolist()[1:] == ["one", "acc", "none", "0.250000", "0.125000", "7", "0", "nothing"]
    assert table.iloc[1].tolist()[1:] == ["two", "exact_match", "strict", "1.000000", "", "9", "5", "nothing"]
    assert table.iloc[3].tolist()[1:] == ["all", "acc", "none", "0.250000", "0.125000", "16", "", "nothing"]
    text = outputs["markdown"].read_text()
    assert "By lm-eval 0.4.13, tasks all N/A, one 2, two Yaml." in text
    assert "| twin" in text


def test_an_audit_finds_a_number_that_lm_eval_did_not_give(tmp_path: Path) -> None:
    outputs = write_tables(tmp_path)
    job = {
        "name": "lm_eval_table",
        "settings": {"title": "Mine", "models": {"pretrained": "nothing", "twin": "nothing"}},
        "output": {name: [f"results/tables/{file.name}"] for name, file in outputs.items()},
    }
    results: Any = SimpleNamespace(
        path=lambda name: tmp_path / Path(name).relative_to("results"),
        of_suite=lambda *parts: "/".join(("results", "mine", *parts)),
    )
    found = Findings(summary="all")
    _check_lm_eval(results, found, job)
    assert not found.failures
    assert found.summary.startswith("all; ")
    outputs["csv"].write_text(outputs["csv"].read_text().replace("twin,one,acc,none,0.25", "twin,one,acc,none,0.35"))
    _check_lm_eval(results, found, job)
    said = "column value: 0.350000 is written, lm-eval's results give 0.250000"
    assert found.failures == [f"results/tables/mine-lm-eval.csv: row twin one acc none, {said}"]
    assert found.mend == ["lm_eval_table"]
