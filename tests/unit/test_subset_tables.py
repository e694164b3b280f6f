"""Tables of models that are about some of a suite's tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from twin_merging.io.files import write_json
from twin_merging.reporting.comparison import compared
from twin_merging.reporting.intervals import COLUMNS as INTERVALS
from twin_merging.reporting.published import PublishedScore
from twin_merging.reporting.subsets import notes
from twin_merging.reporting.tables import write_tables
from twin_merging.scoring.score import score_table

TASKS = ["a", "b", "c"]
SUBSETS = {
    "two": {"merged": ["a", "b"], "left_out": []},
    "unseen": {"merged": ["a", "b"], "left_out": ["c"]},
    "other": {"merged": ["c"], "left_out": ["a", "b"]},
}
VALUES: dict[str, dict[str, float]] = {
    "pretrained": {"a": 0.1, "b": 0.2, "c": 0.3},
    "all": {"a": 0.4, "b": 0.5, "c": 0.6},
    "two": {"a": 0.5, "b": 0.25},
    "unseen": {"a": 0.3, "b": 0.4, "c": 0.25},
    "other": {"a": 0.2, "b": 0.1, "c": 0.5},
    **{f"expert-{task}": {"a": 0.5, "b": 0.5, "c": 0.5} for task in TASKS},
}
SCORES = pd.DataFrame(
    [(model, task, "accuracy", value, 4, "none") for model, own in VALUES.items() for task, value in own.items()],
    columns=["model", "task", "metric", "value", "rows", "protocol"],
)
KNOWLEDGE = {
    "pretrained": {"protocol": "none", "true_task": "head"},
    **{model: {"protocol": "strict", "true_task": "nothing"} for model in ("all", *SUBSETS)},
    "experts": {"protocol": "none", "true_task": "everything"},
}


def test_only_tasks_that_a_model_answers_are_scored(tmp_path: Path) -> None:
    table = pd.DataFrame({"task": ["a", "b"], "output": [1, 0], "reference": [1, 1]})
    table.to_parquet(tmp_path / "two.parquet")
    metrics, protocols = dict.fromkeys(TASKS, "accuracy"), {"two": "strict"}
    found = score_table({"two": tmp_path / "two.parquet"}, metrics, protocols, {"two": ["a", "b"]})
    assert found[["task", "value"]].to_numpy().tolist() == [["a", 1.0], ["b", 0.0]]


@pytest.fixture
def tables(tmp_path: Path) -> dict[str, Any]:
    """Every table of the scores above; of `unseen`, which has a router between `a` and `b`, with its predictions."""
    SCORES.to_csv(tmp_path / "scores.csv", index=False)
    weights = [[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7], [0.6, 0.4], [0.1, 0.9]]
    rows = pd.DataFrame({"task": ["a", "a", "b", "b", "c", "c"], "weights": weights})
    rows.to_parquet(tmp_path / "unseen.parquet")
    confusion = {"a": {"a": 3, "b": 1}, "b": {"a": 0, "b": 4}}
    write_json(tmp_path / "metrics.json", {"accuracy": {"a": 0.75, "b": 1.0}, "confusion": confusion})
    pd.DataFrame(columns=INTERVALS).to_csv(tmp_path / "intervals.csv", index=False)
    names = ("normalised", "absolute", "experts", "router", "routing", "unseen")
    others = ("markdown", "latex", "latex_absolute", "latex_experts")
    outputs = {name: tmp_path / f"{name}.csv" for name in (*names, *others)}
    write_tables(
        title="Three tasks",
        suite="three",
        scores=tmp_path / "scores.csv",
        intervals=tmp_path / "intervals.csv",
        tasks=TASKS,
        knowledge=KNOWLEDGE,
        protocols={"strict": {"head": "expert", "bias": "merge"}},
        told_more=[],
        predictions={"unseen": tmp_path / "unseen.parquet"},
        router_metrics={"unseen": tmp_path / "metrics.json"},
        outputs=outputs,
        subsets=SUBSETS,
    )
    found: dict[str, Any] = {name: pd.read_csv(outputs[name]) for name in names}
    return found | {"markdown": outputs["markdown"].read_text()}


def test_cells_of_other_tasks_are_empty_and_not_in_the_average(tables: dict[str, Any]) -> None:
    normalised, absolute = (tables[name].set_index("model") for name in ("normalised", "absolute"))
    assert normalised.loc["two", ["a", "b", "avg"]].tolist() == [100, 50, 75]
    assert normalised.loc["unseen", ["a", "b", "avg"]].tolist() == [60, 80, 70]
    assert normalised.loc["all", "avg"] == 100
    for table in (normalised, absolute):
        assert table[TASKS].isna().to_numpy().nonzero()[1].tolist() == [2, 2, 0, 1]
    assert absolute.loc["other", ["c", "avg"]].tolist() == [50, 50]
    assert not tables["experts"].isna().to_numpy().any()


def test_unseen_tasks_stand_beside_the_base_and_the_experts(tables: dict[str, Any]) -> None:
    unseen = tables["unseen"]
    assert list(unseen.columns) == ["model", "left_out", "protocol", "true_task", "a", "b", "c", "avg"]
    assert unseen["model"].tolist() == ["pretrained", "unseen", "experts", "pretrained", "other", "experts"]
    assert unseen["left_out"].tolist() == ["c"] * 3 + ["a+b"] * 3
    assert unseen["true_task"].tolist() == ["head", "head", "everything"] * 2
    assert unseen.iloc[:3]["c"].tolist() == unseen.iloc[:3]["avg"].tolist() == [30, 25, 50]
    assert unseen.iloc[3:][["a", "b", "avg"]].to_numpy().tolist() == [[10, 20, 15], [20, 10, 15], [50, 50, 50]]
    assert unseen.iloc[:3][["a", "b"]].isna().to_numpy().all()


def test_a_router_is_measured_on_rows_of_tasks_that_it_knows(tables: dict[str, Any]) -> None:
    router = tables["router"].set_index("measure")
    assert router.loc["test accuracy", ["a", "b", "avg"]].tolist() == [50, 100, 75]
    assert router.loc["held-out accuracy", ["a", "b", "avg"]].tolist() == [75, 100, 87.5]
    assert router["c"].isna().all()
    routing = tables["routing"].set_index(["rows", "task"])
    assert routing.loc[("test", "a"), ["a", "b"]].tolist() == [1, 1]
    assert routing.loc[("test", "b"), ["a", "b"]].tolist() == [0, 2]
    assert routing.loc[("test", "c"), ["a", "b"]].tolist() == [1, 1]
    assert ("held-out", "c") not in routing.index
    assert routing["c"].isna().all()


def test_the_page_says_which_models_are_about_which_tasks(tables: dict[str, Any]) -> None:
    text = tables["markdown"]
    for line in ("* two: a, b\n", "* unseen: a, b (c left out)\n", "* other: c (a, b left out)\n"):
        assert line in text
    assert "Unseen tasks, absolute scores in percent" in text
    assert notes({}) == []


def test_published_scores_stand_beside_scores_of_merged_tasks_alone() -> None:
    def line(model: str, task: str) -> PublishedScore:
        return PublishedScore(model, task, "absolute", 50.0, None, "paper", "")

    published = [line(model, task) for model in ("all", "unseen") for task in ("a", "c", "avg")]
    found = compared(SCORES, published, TASKS, SUBSETS).set_index(["model", "task"])["ours"]
    assert found["all"].tolist() == [40, 60, 50]
    assert found["unseen"].fillna(-1).tolist() == [30, -1, -1]
