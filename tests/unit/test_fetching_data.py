"""Fetching a task's rows from folders: every form gives the same, and what is wrong stops with one sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.messages import one_sentence
from tests.tiny import sentences
from twin_merging.errors import UserError
from twin_merging.fetching.data import fetch_data
from twin_merging.tasks.classification import Labelled

TASK = Labelled(text=("premise", "hypothesis"), labels=3)
WRITERS: dict[str, Callable[[pd.DataFrame, Path], Any]] = {
    "parquet": lambda rows, path: rows.to_parquet(path, index=False),
    "jsonl": lambda rows, path: rows.to_json(path, orient="records", lines=True),
    "json": lambda rows, path: rows.to_json(path, orient="records"),
    "csv": lambda rows, path: rows.to_csv(path, index=False),
}


def data_folder(folder: Path, form: str = "parquet", **splits: pd.DataFrame) -> dict[str, Any]:
    """A folder with the three splits, those given in place of the usual ones, and the source that names it."""
    folder.mkdir()
    for number, split in enumerate(("train", "validation", "test")):
        rows = splits.get(split, sentences(number, 10 * (number + 1), 3, ("premise", "hypothesis")))
        WRITERS[form](rows, folder / f"{split}.{form}")
    return {"path": str(folder), "splits": {}}


def rows_refused(source: dict[str, Any], folder: Path, *words: str, task: Labelled = TASK) -> None:
    with pytest.raises(UserError) as caught:
        fetch_data(source, task, folder / "out")
    one_sentence(caught.value, source["path"], *words)
    assert not list((folder / "out").glob("*"))


@pytest.mark.parametrize("form", WRITERS)
def test_every_form_of_data_gives_the_same_rows(tmp_path: Path, form: str) -> None:
    fetch_data(data_folder(tmp_path / "data", form), TASK, tmp_path / "out")
    for number, split in enumerate(("train", "validation", "test")):
        wanted = sentences(number, 10 * (number + 1), 3, ("premise", "hypothesis"))
        got = pd.read_parquet(tmp_path / "out" / f"{split}.parquet")
        assert got.to_dict("list") == wanted.to_dict("list")


def test_slices_of_one_split_serve_different_uses(tmp_path: Path) -> None:
    source = data_folder(tmp_path / "data")
    source["splits"] = {"train": "test[:90%]", "validation": "test[90%:]", "test": "validation[2:5]"}
    fetch_data(source, TASK, tmp_path / "out")
    rows = {split: pd.read_parquet(tmp_path / "out" / f"{split}.parquet") for split in source["splits"]}
    assert {split: len(table) for split, table in rows.items()} == {"train": 27, "validation": 3, "test": 3}
    whole = pd.read_parquet(tmp_path / "data" / "test.parquet")["premise"].tolist()
    assert [*rows["train"]["premise"], *rows["validation"]["premise"]] == whole


def test_a_regression_takes_any_finite_label(tmp_path: Path) -> None:
    task = Labelled(text=("premise",), labels=1)
    rows = pd.DataFrame({"premise": ["a", "b"], "label": [2.5, -1.0]})
    fetch_data(data_folder(tmp_path / "data", train=rows), task, tmp_path / "out")
    assert pd.read_parquet(tmp_path / "out" / "train.parquet")["label"].tolist() == [2.5, -1.0]
    wrong = rows.assign(label=["2.5", "high"])
    rows_refused(data_folder(tmp_path / "other", train=wrong), tmp_path / "b", "row 1", "high", task=task)


def changed(column: str, row: int, value: Any) -> pd.DataFrame:
    rows = sentences(0, 10, 3, ("premise", "hypothesis"))
    rows[column] = rows[column].astype(object)
    rows.loc[row, column] = value
    return rows


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (sentences(0, 10, 3, ("premise",)), ("no column 'hypothesis'", "premise, label")),
        (sentences(0, 10, 3, ("premise", "hypothesis")).drop(columns="label"), ("no column 'label'",)),
        (changed("premise", 4, None), ("row 4", "no value", "'premise'")),
        (changed("label", 5, None), ("row 5", "no value", "'label'")),
        (changed("label", 6, 3), ("row 6", "label 3", "labels: 3 allows 0 to 2")),
        (changed("label", 0, -1), ("row 0", "label -1")),
    ],
    ids=["text column", "label column", "no text", "no label", "label too large", "label -1"],
)
def test_wrong_rows_are_refused(tmp_path: Path, rows: pd.DataFrame, words: tuple[str, ...]) -> None:
    rows_refused(data_folder(tmp_path / "data", train=rows), tmp_path, "split 'train'", *words)


def test_a_split_that_is_not_there_is_refused(tmp_path: Path) -> None:
    source = data_folder(tmp_path / "data")
    rows_refused({**source, "splits": {"train": "dev"}}, tmp_path, "no file", "dev.parquet")


@pytest.mark.parametrize("split", ["train[:90", "train[a:b]", "train[:200%]", "train[:1%]"])
def test_a_slice_that_makes_no_sense_is_refused(tmp_path: Path, split: str) -> None:
    source = data_folder(tmp_path / "data")
    rows_refused({**source, "splits": {"train": split}}, tmp_path, "train", "cannot be read")


def test_two_files_for_one_split_are_refused(tmp_path: Path) -> None:
    source = data_folder(tmp_path / "data")
    (tmp_path / "data" / "train.csv").write_text("premise,hypothesis,label\na,b,0\n")
    rows_refused(source, tmp_path, "train.parquet and train.csv")


@pytest.mark.parametrize(("form", "text"), [("parquet", "PAR1 no"), ("jsonl", '{"premise": '), ("csv", 'a,b\n"')])
def test_a_damaged_file_is_refused(tmp_path: Path, form: str, text: str) -> None:
    source = data_folder(tmp_path / "data", form)
    (tmp_path / "data" / f"train.{form}").write_text(text)
    rows_refused(source, tmp_path, f"train.{form}")
