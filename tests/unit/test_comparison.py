"""A suite's scores beside published ones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from twin_merging.errors import UserError
from twin_merging.reporting.comparison import compare, compared, completed
from twin_merging.reporting.published import PublishedScore, read_published

GLUE = Path(__file__).parents[2] / "config" / "published" / "glue.csv"
GLUE_TASKS = ["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte"]
TASKS = ["a", "b"]
OURS = {
    "pretrained": (0.0, 0.5),
    "sum": (0.3, 0.6),
    "twin": (0.45, 0.8),
    "expert-a": (0.5, 0.1),
    "expert-b": (0.2, 0.8),
}
HEADER = "model,task,scale,value,rows,source,note"
PUBLISHED = f"""{HEADER}
expert-a,a,absolute,40,11,site,
expert-a,b,absolute,12.5,11,site,
expert-b,b,absolute,80,11,site,
sum,a,absolute,10,10,site,"first, short"
sum,b,absolute,60,10,site,
twin,avg,normalised,97,,paper,
twin,a,normalised,101.5,10,site,
twin,b,normalised,95.5,10,site,
other,a,absolute,20,10,site,
"""


def scores(values: dict[str, tuple[float, float]]) -> pd.DataFrame:
    lines = [(m, t, "accuracy", v, 10, "none") for m, row in values.items() for t, v in zip(TASKS, row, strict=True)]
    return pd.DataFrame(lines, columns=["model", "task", "metric", "value", "rows", "protocol"])


def written(folder: Path, text: str) -> Path:
    (folder / "published.csv").write_text(text, encoding="utf-8")
    return folder / "published.csv"


def table_of(folder: Path, text: str = PUBLISHED) -> Any:
    return compared(scores(OURS), completed(read_published(written(folder, text), TASKS), TASKS), TASKS)


def line(table: Any, model: str, task: str, scale: str, source: str | None = None) -> Any:
    chosen = (table["model"] == model) & (table["task"] == task) & (table["scale"] == scale)
    (found,) = table[chosen & (table["source"] == source if source else True)].to_dict("records")
    return found


def test_the_published_glue_scores_average_to_what_is_known_of_them() -> None:
    known = {
        (score.model, score.origin): score.value
        for score in completed(read_published(GLUE, GLUE_TASKS), GLUE_TASKS)
        if (score.task, score.scale) == ("avg", "normalised")
    }
    computed = {model: round(value, 2) for (model, origin), value in known.items() if origin == "computed"}
    assert computed == {"twin": 95.83, "task-arithmetic": 67.98, "ties": 55.72}
    assert known["twin", "published"] == 96.14
    assert known["ties", "published"] == 64.7
    assert known["wudi-authors", "published"] == 85.3


def test_the_published_glue_scores_are_whole_and_on_the_rows_that_they_were_taken_on() -> None:
    found = read_published(GLUE, GLUE_TASKS)
    experts = {(score.model, score.task): score for score in found if score.model.startswith("expert-")}
    assert len(experts) == 64
    assert (experts["expert-cola", "cola"].value, experts["expert-cola", "cola"].rows) == (56.52, 1001)
    methods = {(score.model, score.task): score for score in found if (score.model, score.task) not in experts}
    assert {score.scale for (model, _), score in methods.items() if model == "twin"} == {"normalised"}
    assert methods["ties", "rte"].scale == "absolute"
    assert methods["ties", "rte"].value == round(100 * 131 / 277, 2)
    assert methods["ties", "rte"].rows == 277


def test_the_published_scores_of_roberta_large_are_whole_and_are_those_of_a_normalised_average() -> None:
    found = read_published(GLUE.with_name("glue-large.csv"), GLUE_TASKS)
    values = {(score.model, score.task): score.value for score in found}
    assert {(f"expert-{own}", task) for own in GLUE_TASKS for task in GLUE_TASKS} <= {*values}
    assert round(values["expert-mnli", "mnli"] * 1001 / 100) == 905  # so it is of 1001 rows
    # The authors' code averages absolute values: that of STS-B is -18.85.
    averages = [abs(values["pretrained", task]) / values[f"expert-{task}", task] for task in GLUE_TASKS]
    assert round(100 * sum(averages) / 8, 1) == values["pretrained", "avg"] == 38.2
    assert (values["wudi-authors", "avg"], values["ties", "avg"]) == (88.8, 72.4)


def test_ours_published_and_their_difference_stand_beside_each_other(tmp_path: Path) -> None:
    table = table_of(tmp_path)
    absolute = line(table, "sum", "a", "absolute")
    assert [absolute[key] for key in ("ours", "published", "difference")] == pytest.approx([30, 10, 20])
    assert [absolute[key] for key in ("rows", "published_rows", "origin", "note")] == [
        10,
        10,
        "published",
        "first, short",
    ]
    assert line(table, "expert-a", "b", "absolute")["difference"] == pytest.approx(10 - 12.5)
    assert line(table, "twin", "a", "normalised")["ours"] == pytest.approx(90)


def test_normalised_scores_are_computed_from_published_absolute_ones_and_marked(tmp_path: Path) -> None:
    table = table_of(tmp_path)
    for task, ours, published in (("a", 60, 25), ("b", 75, 75), ("avg", 67.5, 50)):
        found = line(table, "sum", task, "normalised")
        assert [found["ours"], found["published"]] == pytest.approx([ours, published])
        assert found["origin"] == "computed"
    assert line(table, "other", "a", "normalised")["published"] == pytest.approx(50)
    assert line(table, "sum", "avg", "absolute")["published"] == pytest.approx(35)


def test_the_experts_own_scores_are_a_row_of_absolute_scores(tmp_path: Path) -> None:
    table = table_of(tmp_path)
    assert line(table, "experts", "a", "absolute")["origin"] == "published"
    average = line(table, "experts", "avg", "absolute")
    assert [average[key] for key in ("ours", "published", "origin")] == [65, 60, "computed"]
    assert not ((table["model"] == "experts") & (table["scale"] == "normalised")).any()


def test_a_stated_average_and_a_computed_one_are_two_lines(tmp_path: Path) -> None:
    table = table_of(tmp_path)
    assert line(table, "twin", "avg", "normalised", "paper")["published"] == 97
    assert line(table, "twin", "avg", "normalised", "site")["published"] == pytest.approx(98.5)
    stated = table_of(tmp_path, f"{PUBLISHED}twin,avg,normalised,98,,site,\n")
    assert line(stated, "twin", "avg", "normalised", "site")["origin"] == "published"


def test_scales_are_never_mixed(tmp_path: Path) -> None:
    table = table_of(tmp_path, f"{HEADER}\ntwin,a,normalised,90,,site,\ntwin,b,absolute,80,,site,\n")
    assert table[["task", "scale", "origin"]].to_numpy().tolist() == [
        ["a", "normalised", "published"],
        ["b", "absolute", "published"],
    ], "no average of two scales, and no normalised score without the expert's"


def test_a_model_that_the_suite_has_not_is_shown_without_ours(tmp_path: Path) -> None:
    found = line(table_of(tmp_path), "other", "a", "absolute")
    assert pd.isna(found["ours"])
    assert pd.isna(found["difference"])
    assert pd.isna(found["rows"])


def test_no_average_where_a_task_is_not_published(tmp_path: Path) -> None:
    table = table_of(tmp_path)
    assert table[table["model"] == "other"]["task"].tolist() == ["a", "a"]


def test_an_expert_at_0_or_below_has_no_normalised_scores(tmp_path: Path) -> None:
    table = table_of(tmp_path, PUBLISHED.replace("expert-a,a,absolute,40", "expert-a,a,absolute,-1"))
    found = table[(table["model"] == "sum") & (table["scale"] == "normalised")]
    assert found[["task", "published"]].to_numpy().tolist() == [["b", 75.0], ["avg", 75.0]]


def test_models_are_in_the_suites_order_with_experts_last(tmp_path: Path) -> None:
    table = table_of(tmp_path)
    models = list(dict.fromkeys(table[table["scale"] == "absolute"]["model"]))
    assert models == ["sum", "other", "experts", "expert-a", "expert-b"]
    assert table["scale"].is_monotonic_decreasing


def test_the_files_that_are_written(tmp_path: Path) -> None:
    scores(OURS).to_csv(tmp_path / "scores.csv", index=False)
    outputs = {"table": tmp_path / "out.csv", "markdown": tmp_path / "out.md"}
    compare(
        title="Two tasks",
        tasks=TASKS,
        scores=tmp_path / "scores.csv",
        published=written(tmp_path, PUBLISHED),
        outputs=outputs,
    )
    table: Any = pd.read_csv(outputs["table"])
    assert list(table.columns[:7]) == ["model", "task", "scale", "ours", "published", "difference", "origin"]
    text = outputs["markdown"].read_text()
    assert "| twin    |  95.00 |       98.50 |        -3.50 | computed from [1] |" in text
    assert "| twin    |  95.00 |       97.00 |        -2.00 | [2]               |" in text
    assert "| sum     | ours           |  60.00 |  75.00 | 67.50 |" in text
    assert "|         | computed [1]   |  25.00 |  75.00 | 50.00 |" in text
    assert "|         | difference [1] |  35.00 |   0.00 | 17.50 |" in text
    assert "| other   | published [1]  | 20.00 |       |       |" in text
    assert "Nothing is published of pretrained." in text
    assert "site, 10 to 11 rows a task; sum: first, short" in text


WRONG: dict[str, tuple[str, str]] = {
    "an expert of no task": ("expert-c,a,absolute,1,,s,", ":2: unknown model 'expert-c' (did you mean 'expert-"),
    "a model with a capital": ("Twin,a,absolute,1,,s,", ":2: model 'Twin': give a model's name in the suite"),
    "the row of experts": ("experts,a,absolute,1,,s,", ":2: model 'experts': give"),
    "a task that is none": ("twin,c,absolute,1,,s,", ":2: unknown task 'c'; allowed: a, avg, b"),
    "an expert's average": ("expert-a,avg,absolute,1,,s,", ":2: unknown task 'avg'; allowed: a, b"),
    "a scale that is none": ("twin,a,normalized,1,,s,", ":2: unknown scale 'normalized' (did you mean 'normalised'?)"),
    "an expert's normalised score": ("expert-a,a,normalised,1,,s,", ":2: expert-a: an expert's scores are"),
    "text for a number": ("twin,a,absolute,high,,s,", ":2: value 'high' is not a number; write a score in percent"),
    "nothing for a number": ("twin,a,absolute,,,s,", ":2: value '' is not a number"),
    "not a number": ("twin,a,absolute,nan,,s,", ":2: value 'nan' is not a number"),
    "a normalised score as an absolute": ("twin,a,absolute,101.06,,s,", ":2: value 101.06 cannot be an absolute score"),
    "rows that are none": ("twin,a,absolute,1,0,s,", ":2: rows '0' is not a whole number above 0"),
    "no source": ("twin,a,absolute,1,,,", ":2: source is empty; say where"),
    "two sources in one": ("twin,a,absolute,1,,s; t,", ":2: source 's; t' holds a semicolon"),
    "a decimal comma": ("twin,a,absolute,1,5,,s,", ":2: the line has more or fewer cells than there are columns; put"),
    "a line too short": ("twin,a,absolute", ":2: the line has more or fewer cells than there are columns"),
    "a number twice": (
        "twin,a,absolute,1,,s,\n\ntwin,a,absolute,2,,s,",
        ":4: twin, a, absolute, s: is there twice, first in line 2; remove one",
    ),
    "an open quote": ('twin,a,absolute,1,,"s,', ": not valid CSV after line 1: unexpected end of data; close every"),
    "no lines": ("", ": holds no scores; write one line for each score"),
}


def refused(file: Path, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"{file}{message}")) as caught:
        read_published(file, TASKS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_line_is_said_in_one_sentence(tmp_path: Path, case: str) -> None:
    text, message = WRONG[case]
    refused(written(tmp_path, f"{HEADER}\n{text}\n"), message)


def test_wrong_columns_are_said_in_one_sentence(tmp_path: Path) -> None:
    refused(written(tmp_path, f"{HEADER},page\n"), ":1: unknown column 'page'; allowed: model, note, rows")
    refused(written(tmp_path, "model,task,scale,value\n"), ":1: column 'source' is missing; required: model, task")
    refused(written(tmp_path, ""), ":1: column 'model' is missing")


def test_a_missing_file_and_one_that_is_no_text_are_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.csv: no such file; correct `published` in the suite"):
        read_published(tmp_path / "none.csv", TASKS)
    (tmp_path / "published.csv").write_bytes(HEADER.encode() + b"\n\xff\n")
    with pytest.raises(UserError, match="not text in UTF-8"):
        read_published(tmp_path / "published.csv", TASKS)


def test_a_file_as_spreadsheets_save_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "published.csv").write_bytes(f"\ufeff{HEADER}\r\ntwin,a,absolute, 1.5 ,,s,\r\n".encode())
    assert read_published(tmp_path / "published.csv", TASKS) == [
        PublishedScore(model="twin", task="a", scale="absolute", value=1.5, rows=None, source="s", note="")
    ]
