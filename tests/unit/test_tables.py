"""Metrics, normalised scores and tables."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import evaluate
import numpy as np
import pandas as pd
import pytest

from twin_merging.io.files import write_json
from twin_merging.reporting.intervals import Rows, write_intervals
from twin_merging.reporting.normalisation import absolute_scores, markdown_table, normalised_scores
from twin_merging.reporting.notes import no_score_note
from twin_merging.reporting.routing import routed_rows, router_scores
from twin_merging.reporting.tables import write_tables
from twin_merging.scoring.calibration import expected_calibration_error
from twin_merging.scoring.metrics import score
from twin_merging.scoring.score import MODULE, score_predictions

TASKS = ["a", "b"]
VALUES = {
    "pretrained": (0.0, 0.5),
    "twin": (0.45, 0.8),
    "worse": (-0.1, 0.4),
    "expert-a": (0.5, 0.1),
    "expert-b": (0.2, 0.8),
}


def scores(values: dict[str, tuple[float, float]]) -> pd.DataFrame:
    lines = [(m, t, "accuracy", v, 10, "none") for m, row in values.items() for t, v in zip(TASKS, row, strict=True)]
    return pd.DataFrame(lines, columns=["model", "task", "metric", "value", "rows", "protocol"])


def test_normalised_is_100_times_score_over_the_experts_and_experts_are_100() -> None:
    table: Any = normalised_scores(absolute_scores(scores(VALUES), TASKS))
    assert list(table.index) == ["pretrained", "twin", "worse", "experts"]
    assert table.loc["twin"].tolist() == pytest.approx([90, 100, 95])
    assert table.loc["worse"].tolist() == pytest.approx([-20, 50, 15])
    assert table.loc["experts"].tolist() == pytest.approx([100, 100, 100])


@pytest.mark.parametrize("expert", [0.0, -0.2])
def test_a_task_whose_expert_scores_0_or_less_is_empty_and_left_out_of_every_average(expert: float) -> None:
    table: Any = normalised_scores(absolute_scores(scores({**VALUES, "expert-a": (expert, 0.1)}), TASKS))
    assert table["a"].isna().all()
    assert table.loc["twin", "avg"] == pytest.approx(100)


def test_the_note_names_tasks_without_a_normalised_score_and_says_where_there_is_none_at_all() -> None:
    some = pd.DataFrame({"a": [50.0], "b": [np.nan], "avg": [50.0]}, index=["merged"])
    assert no_score_note(some) == "No normalised score for b: the expert scores 0 or less; `avg` leaves it out."
    none = pd.DataFrame({"a": [np.nan], "b": [np.nan], "avg": [np.nan]}, index=["merged"])
    assert no_score_note(none) == "No normalised score for any task: every expert scores 0 or less."
    assert no_score_note(some[["a", "avg"]]) == ""


def test_the_papers_normalised_twin_scores_average_as_published() -> None:
    published = [101.06, 94.35, 97.51, 98.78, 98.06, 94.56, 99.64, 82.67]
    tasks = ["cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2", "stsb"]
    values = pd.DataFrame(
        {t: {"twin": v, **{f"expert-{e}": 100.0 for e in tasks}} for t, v in zip(tasks, published, strict=True)}
    )
    table: Any = normalised_scores(values)
    assert table.loc["twin", "avg"] == pytest.approx(95.83, abs=0.005)


METRIC_CASES = [
    ("accuracy", [1, 0, 2, 1], [1, 0, 1, 1], 0.75),
    ("matthews_correlation", [1, 1, 0, 0], [1, 0, 0, 1], 0.0),
    ("matthews_correlation", [1, 1, 1, 1], [1, 0, 0, 1], 0.0),
    ("matthews_correlation", [0, 1, 1, 0], [1, 0, 0, 1], -1.0),
    ("accuracy_f1", [1, 1, 0, 0], [1, 0, 0, 1], 0.5),
    ("accuracy_f1", [1, 2, 0, 0], [1, 0, 0, 0], (0.75 + 1.0) / 2),
    ("accuracy_f1", [0, 0], [1, 1], 0.0),
    ("pearson_spearman", [1.0, 2.0, 4.0], [1.0, 2.0, 3.0], (0.9819805 + 1.0) / 2),
    ("pearson_spearman", [2.0, 2.0, 2.0], [1.0, 2.0, 3.0], 0.0),
    ("pearson_spearman", [3.0, 2.0, 1.0], [1.0, 2.0, 3.0], -1.0),
]


@pytest.mark.parametrize(("metric", "outputs", "references", "wanted"), METRIC_CASES)
def test_metrics_equal_hand_computed_values(
    metric: str, outputs: list[float], references: list[float], wanted: float
) -> None:
    assert score(metric, outputs, references) == pytest.approx(wanted, abs=1e-6)
    loaded = evaluate.load(str(MODULE), metric)
    assert loaded.compute(predictions=outputs, references=references)[metric] == pytest.approx(wanted, abs=1e-6)


def predictions(folder: Path, name: str, outputs: list[float], weights: list[list[float]] | None) -> Path:
    table = pd.DataFrame(
        {
            "task": ["a", "a", "b", "b"],
            "row": [0, 1, 0, 1],
            "output": outputs,
            "reference": [1.0, 0.0, 1.0, 1.0],
            "weights": weights if weights is not None else pd.Series([None] * 4),
        }
    )
    table.to_parquet(folder / f"{name}.parquet")
    return folder / f"{name}.parquet"


def test_tables_of_predictions(tmp_path: Path) -> None:
    weights = [[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.1, 0.9]]
    files = {
        "pretrained": predictions(tmp_path, "pretrained", [1, 1, 0, 0], None),
        "twin": predictions(tmp_path, "twin", [1, 0, 1, 0], weights),
        "expert-a": predictions(tmp_path, "expert-a", [1, 0, 0, 0], None),
        "expert-b": predictions(tmp_path, "expert-b", [0, 0, 1, 1], None),
    }
    protocols = {"pretrained": "none", "twin": "strict", "expert-a": "none", "expert-b": "none"}
    score_predictions(files, dict.fromkeys(TASKS, "accuracy"), protocols, tmp_path / "scores.csv")
    confusion = {"a": {"a": 4, "b": 0}, "b": {"a": 1, "b": 1}}
    write_json(tmp_path / "metrics.json", {"accuracy": {"a": 1.0, "b": 0.5}, "confusion": confusion})
    knowledge = {
        "pretrained": {"protocol": "none", "true_task": "head"},
        "twin": {"protocol": "strict", "true_task": "nothing"},
        "experts": {"protocol": "none", "true_task": "everything"},
    }
    names: tuple[str, ...] = ("normalised", "absolute", "experts", "router", "routing", "unseen", "markdown")
    names += ("latex", "latex_absolute", "latex_experts")
    outputs = {name: tmp_path / f"{name}.out" for name in names}
    rows = Rows(static=[], competing=["twin"])
    write_intervals(tmp_path / "scores.csv", files, dict.fromkeys(TASKS, "accuracy"), rows, tmp_path / "intervals.csv")
    write_tables(
        title="Two tasks",
        suite="two",
        scores=tmp_path / "scores.csv",
        intervals=tmp_path / "intervals.csv",
        tasks=TASKS,
        knowledge=knowledge,
        protocols={"strict": {"head": "expert", "bias": "merge"}},
        told_more=[],
        predictions={"twin": files["twin"]},
        router_metrics={"twin": tmp_path / "metrics.json"},
        outputs=outputs,
    )
    assert "not merged (strict: head)." in outputs["markdown"].read_text(encoding="utf-8")
    normalised: Any = pd.read_csv(outputs["normalised"]).set_index("model")
    assert list(normalised.columns) == ["protocol", "true_task", "a", "b", "avg"]
    assert normalised.loc["twin", ["a", "b", "avg"]].tolist() == [100, 50, 75]
    assert normalised.loc["twin", "true_task"] == "nothing"
    absolute: Any = pd.read_csv(outputs["absolute"]).set_index("model")
    assert absolute.loc["twin", ["a", "b", "avg"]].tolist() == [100, 50, 75]
    cross: Any = pd.read_csv(outputs["experts"]).set_index("expert")
    assert cross.loc["a"].tolist() == [100, 0]
    assert cross.loc["b"].tolist() == [50, 100]
    router: Any = pd.read_csv(outputs["router"]).set_index("measure")
    assert router.loc["held-out accuracy", ["a", "b", "avg"]].tolist() == [100, 50, 75]
    assert router.loc["test accuracy", ["a", "b", "avg"]].tolist() == [100, 50, 75]
    assert router.loc["test weight of the true task", "a"] == pytest.approx(85)
    # Confidences 0.9, 0.8 (right), 0.6 (wrong), 0.9 (right): the two of 0.9 share a bin.
    errors = router.loc["test calibration error", ["a", "b", "avg"]].tolist()
    assert errors == pytest.approx([(10 + 20) / 2, (60 + 10) / 2, (20 + 20 + 60) / 4])
    routing: Any = pd.read_csv(outputs["routing"])
    assert list(routing.columns) == ["model", "rows", "task", "a", "b"]
    assert routing.to_numpy().tolist() == [
        ["twin", "held-out", "a", 4, 0],
        ["twin", "held-out", "b", 1, 1],
        ["twin", "test", "a", 2, 0],
        ["twin", "test", "b", 1, 1],
    ]
    text = outputs["markdown"].read_text()
    assert "| twin    | test calibration error       |  15.00 | 35.00 | 25.00 |" in text
    line, *_ = (line for line in text.splitlines() if line.startswith("| twin       | strict     | nothing"))
    assert [cell.strip() for cell in line.split("|")[4:8]] == [
        "100.00",
        "50.00 [0.0, 100.0]",
        "75.00 [50.0, 100.0]",
        "",
    ]
    assert r"twin & strict & nothing & $100.00$ & $50.00_{0.0}^{100.0}$" in outputs["latex"].read_text()
    assert "2 rows a task" in text
    assert "(strict: head)" in text
    assert not math.isnan(normalised["avg"].sum())


def test_tables_of_a_suite_without_routers_are_headers_alone() -> None:
    assert list(router_scores({}, {}, TASKS).columns) == ["model", "measure", "a", "b", "avg"]
    assert list(routed_rows({}, {}, TASKS).columns) == ["model", "rows", "task", "a", "b"]
    assert len(router_scores({}, {}, TASKS)) == len(routed_rows({}, {}, TASKS)) == 0


CALIBRATION_CASES = {
    "always sure and right": ([[1.0, 0.0], [0.0, 1.0]], [0, 1], 0.0),
    "always sure and wrong": ([[1.0, 0.0], [1.0, 0.0]], [1, 1], 1.0),
    "sure half of the time right": ([[1.0, 0.0], [1.0, 0.0]], [0, 1], 0.5),
    "over- and underconfident in two bins": ([[0.9, 0.1], [0.6, 0.4]], [1, 0], (0.9 + 0.4) / 2),
    "over- and underconfident in one bin": ([[0.61, 0.39], [0.65, 0.35]], [1, 0], (0.61 - 0.35) / 2),
    "equal weights are the first task's": ([[0.5, 0.5], [0.5, 0.5]], [0, 1], 0.0),
}


@pytest.mark.parametrize("case", CALIBRATION_CASES)
def test_the_expected_calibration_error_equals_hand_computed_values(case: str) -> None:
    weights, true, wanted = CALIBRATION_CASES[case]
    for dtype in (np.float64, np.float32):
        found = expected_calibration_error(np.array(weights, dtype=dtype), np.array(true))
        assert found == pytest.approx(wanted, abs=1e-6)


def test_a_markdown_table_leaves_texts_as_they_are_and_missing_numbers_empty() -> None:
    table = pd.DataFrame({"name": ["1e5", "007"], "score": [2 / 3, float("nan")], "rows": [10, 2000]})
    assert markdown_table(table).splitlines() == [
        "| name   |   score |   rows |",
        "|:-------|--------:|-------:|",
        "| 1e5    |    0.67 |     10 |",
        "| 007    |         |   2000 |",
    ]
