"""Intervals of a suite's scores: against scikit-learn, SciPy and explicit resampling; what is compared and marked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from twin_merging.errors import UserError
from twin_merging.reporting.intervals import COLUMNS, Rows, interval_table, write_intervals
from twin_merging.scoring.resampling import row_counts
from twin_merging.scoring.score import score_table

METRICS = {"cola": "matthews_correlation", "mrpc": "accuracy_f1", "stsb": "pearson_spearman", "sst2": "accuracy"}
ROWS, RESAMPLES, FEW = 60, 400, 25
MODELS = {
    "pretrained": 0.1,
    "sum": 0.5,
    "ties": 0.45,
    "masks": 0.9,
    "twin": 0.8,
    **{f"expert-{t}": 0.9 for t in METRICS},
}
COMPARED = Rows(static=["sum", "ties"], competing=["sum", "ties", "twin"])
INDEPENDENT = {
    "matthews_correlation": lambda right, given: matthews_corrcoef(right, given),
    "accuracy_f1": lambda right, given: (accuracy_score(right, given) + f1_score(right, given)) / 2,
    "pearson_spearman": lambda right, given: (pearsonr(right, given)[0] + spearmanr(right, given)[0]) / 2,
    "accuracy": lambda right, given: accuracy_score(right, given),
}


def answers(skill: float, task: str, generator: np.random.Generator) -> pd.DataFrame:
    """Made-up answers of a model: the better, the larger `skill`."""
    right = np.random.default_rng(len(task)).integers(0, 2, ROWS).astype(float)
    if METRICS[task] == "pearson_spearman":
        right = np.random.default_rng(1).integers(0, 11, ROWS) / 2
        given = np.round(skill * right + (1 - skill) * generator.uniform(0, 5, ROWS), 1)
    else:
        given = np.where(generator.random(ROWS) < skill, right, generator.integers(0, 2, ROWS))
    return pd.DataFrame({"task": task, "row": range(ROWS), "output": given, "reference": right})


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, generator = tmp_path_factory.mktemp("predictions"), np.random.default_rng(0)
    for model, skill in MODELS.items():
        table = pd.concat([answers(skill, task, generator) for task in METRICS])
        table.to_parquet(folder / f"{model}.parquet", index=False)
    return {model: folder / f"{model}.parquet" for model in MODELS}


def scores_of(files: Mapping[str, Path], evaluated: Any = None) -> pd.DataFrame:
    return score_table(files, METRICS, dict.fromkeys(MODELS, "none"), evaluated)


@pytest.fixture(scope="module")
def table(files: dict[str, Path]) -> Any:
    return lines_of(files, RESAMPLES)


def lines_of(files: Mapping[str, Path], resamples: int, evaluated: Any = None) -> Any:
    """The table, by scale, model and task."""
    found = interval_table(scores_of(files, evaluated), files, METRICS, COMPARED, resamples=resamples)
    return found.set_index(["scale", "model", "task"])


def resampled(files: Mapping[str, Path], model: str, task: str) -> np.ndarray:
    """100 x the metric of explicitly drawn rows, by scikit-learn and SciPy."""
    rows: Any = pd.read_parquet(files[f"expert-{task}" if model == "experts" else model])
    rows = rows[rows["task"] == task].reset_index(drop=True)
    found = []
    right, given = rows["reference"].to_numpy(), rows["output"].to_numpy()
    for column in np.concatenate(list(row_counts(task, ROWS, FEW)), axis=1).T:
        drawn = np.repeat(np.arange(ROWS), column.astype(int))
        found.append(100 * INDEPENDENT[METRICS[task]](right[drawn], given[drawn]))
    return np.array(found)


def ends(numbers: np.ndarray) -> list[float]:
    return list(np.percentile(numbers, [2.5, 97.5]))


def test_values_and_intervals_equal_those_of_scikit_learn_and_scipy(files: dict[str, Path]) -> None:
    table = lines_of(files, FEW)
    drawn = {model: {task: resampled(files, model, task) for task in METRICS} for model in ("sum", "twin", "experts")}
    for task, metric in METRICS.items():
        rows: Any = pd.read_parquet(files["twin"]).query("task == @task")
        line = table.loc["absolute", "twin", task]
        assert line["value"] == pytest.approx(100 * INDEPENDENT[metric](rows["reference"], rows["output"]))
        assert [line["low"], line["high"]] == pytest.approx(ends(drawn["twin"][task]))
        ratio = 100 * drawn["twin"][task] / drawn["experts"][task]
        assert [table.loc["normalised", "twin", task][end] for end in ("low", "high")] == pytest.approx(ends(ratio))
    means = {model: np.mean([drawn[model][t] / drawn["experts"][t] for t in METRICS], axis=0) for model in drawn}
    line = table.loc["normalised", "twin", "avg"]
    values = table.loc["normalised"]["value"].unstack()
    assert line["value"] == pytest.approx(values.loc["twin", list(METRICS)].mean())
    assert [line["low"], line["high"]] == pytest.approx(ends(100 * means["twin"]))
    assert line["than"] == values.loc[["sum", "ties"], "avg"].idxmax() == "sum"
    assert line["difference"] == pytest.approx(line["value"] - values.loc["sum", "avg"])
    found = [line["difference_low"], line["difference_high"]]
    assert found == pytest.approx(ends(100 * (means["twin"] - means["sum"])))


def test_there_is_a_line_for_each_scale_row_and_column_in_the_order_of_the_suite(table: Any) -> None:
    own = ["pretrained", "sum", "ties", "masks", "twin", "experts"]
    wanted = [
        (scale, model, task) for scale in ("normalised", "absolute") for model in own for task in (*METRICS, "avg")
    ]
    assert list(table.index) == wanted


def test_experts_are_100_with_no_doubt_and_a_static_row_is_compared_with_another(table: Any) -> None:
    experts = table.loc["normalised", "experts", "avg"]
    assert experts[["value", "low", "high"]].tolist() == [100, 100, 100]
    assert (table.loc["normalised", "sum", "avg"]["than"], table.loc["normalised", "ties", "avg"]["than"]) == (
        "ties",
        "sum",
    )


def test_the_best_is_marked_where_its_difference_to_the_next_one_leaves_out_zero(table: Any) -> None:
    marks = table.loc["normalised"]["mark"].unstack()
    assert marks.loc["twin", "avg"] == "best"
    assert marks.loc["masks"].tolist() == [""] * len(marks.columns)  # better, and told more
    assert (marks.loc[["pretrained", "experts"]] == "").all(axis=None)
    # sum is the second, and not clearly before ties
    assert table.loc["normalised", "sum", "avg"]["value"] > table.loc["normalised", "ties", "avg"]["value"]
    assert table.loc["normalised", "sum", "avg"]["difference_low"] < 0
    assert marks.loc["sum", "avg"] == ""


def marks_of(files: dict[str, Path], values: Mapping[str, float]) -> list[str]:
    """The marks of one task for models that answer so many of 400 rows right."""
    folder = files["sum"].parent / "marks"
    folder.mkdir(exist_ok=True)
    order = np.random.default_rng(3).permutation(400)
    for model, share in {**values, "expert-one": 1.0}.items():
        right = (order < share * 400).astype(float)
        rows = pd.DataFrame({"task": "one", "row": range(400), "output": right, "reference": 1.0})
        rows.to_parquet(folder / f"{model}.parquet")
    own = {model: folder / f"{model}.parquet" for model in (*values, "expert-one")}
    scores = score_table(own, {"one": "accuracy"}, dict.fromkeys(own, "none"))
    found = interval_table(scores, own, {"one": "accuracy"}, Rows([], list(values)), resamples=500)
    return found.query("scale == 'absolute' and task == 'one' and model != 'experts'")["mark"].tolist()


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({"a": 0.5, "b": 0.9, "c": 0.7}, ["", "best", "second"]),
        ({"a": 0.7, "b": 0.9, "c": 0.7}, ["", "best", ""]),  # two seconds, alike
        ({"a": 0.9, "b": 0.9, "c": 0.5}, ["", "", ""]),  # two best, alike
        ({"a": 0.9, "b": 0.5}, ["best", ""]),
        ({"a": 0.9}, [""]),
    ],
)
def test_marks(files: dict[str, Path], values: dict[str, float], wanted: list[str]) -> None:
    assert marks_of(files, values) == wanted


def test_a_row_of_some_tasks_has_an_average_of_these_and_is_compared_with_none_of_others(
    files: dict[str, Path],
) -> None:
    evaluated = {"twin": ["cola", "sst2"], "ties": ["cola", "sst2"]}
    lines = lines_of(files, FEW, evaluated).sort_index()
    assert lines.loc["absolute", "twin"].index.tolist() == ["avg", "cola", "sst2"]
    own = lines.loc["absolute", "twin"]["value"]
    assert own["avg"] == pytest.approx((own["cola"] + own["sst2"]) / 2)
    assert lines.loc["absolute", "twin"]["than"].tolist() == ["ties"] * 3
    assert lines.loc["absolute", "pretrained"]["than"].tolist() == ["sum"] * 5
    assert (lines.loc["absolute", "twin"]["mark"] == "").all()
    unseen: Any = {"twin": {"merged": ["cola"], "left_out": ["sst2"]}}
    found = interval_table(scores_of(files, evaluated), files, METRICS, COMPARED, unseen, resamples=FEW)
    assert found.query("scale == 'absolute' and model == 'twin'")["task"].tolist() == ["cola", "avg"]


def test_an_expert_at_or_below_zero_has_no_normalised_scores_and_one_near_zero_no_interval(
    files: dict[str, Path], tmp_path: Path
) -> None:
    def with_expert(skill: float) -> dict[str, Path]:
        table: Any = pd.read_parquet(files["expert-cola"])
        right = table.loc[table["task"] == "cola", "reference"]
        given = np.where(np.arange(ROWS) < skill * ROWS, right, 1 - right)
        table.loc[table["task"] == "cola", "output"] = given
        table.to_parquet(tmp_path / f"{skill}.parquet")
        return {**files, "expert-cola": tmp_path / f"{skill}.parquet"}

    worse = lines_of(with_expert(0.4), RESAMPLES).sort_index()
    assert "cola" not in worse.loc["normalised", "twin"].index
    assert "cola" in worse.loc["absolute", "twin"].index
    near = lines_of(with_expert(0.6), RESAMPLES).sort_index()
    assert near.loc["normalised", "twin", "cola"]["value"] > 0
    assert all(math.isnan(near.loc["normalised", "twin", task]["low"]) for task in ("cola", "avg"))
    assert (near.loc["normalised"]["mark"].unstack()[["cola", "avg"]] == "").all(axis=None)


def test_the_same_bytes_each_time_and_other_rows_are_refused(files: dict[str, Path], tmp_path: Path) -> None:
    own = {**files}
    scores_of(files).to_csv(tmp_path / "scores.csv", index=False)
    for name in ("one", "two"):
        write_intervals(tmp_path / "scores.csv", own, METRICS, COMPARED, tmp_path / f"{name}.csv")
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()
    assert (tmp_path / "one.csv").read_text().splitlines()[0] == ",".join(COLUMNS)
    pd.read_parquet(files["twin"]).iloc[::-1].to_parquet(tmp_path / "twin.parquet")
    own["twin"] = tmp_path / "twin.parquet"
    with pytest.raises(UserError, match=r"twin\.parquet: the rows of task cola are not those of expert-cola"):
        write_intervals(tmp_path / "scores.csv", own, METRICS, COMPARED, tmp_path / "three.csv")
    assert not (tmp_path / "three.csv").exists()
