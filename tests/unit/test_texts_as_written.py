"""Texts are read as they are written, from every form of file; what is no text stops with one sentence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.fake_hub import FakeHub, used_here
from tests.messages import one_sentence
from twin_merging.errors import UserError
from twin_merging.fetching.data import fetch_data
from twin_merging.io.validation import validate
from twin_merging.tasks.classification import Labelled
from twin_merging.tasks.generation import Asked
from twin_merging.tasks.task import Rows

TASK = Labelled(text=("sentence",), labels=2)
ASKED = validate(Asked, {"prompt": "{question} =", "target": "answer"})
# Texts that a reader might take for something else, or for the end of a line.
TEXTS = [
    *("0042", "3.140", "-0", "2e10", "0x1F", "1_000", "+1", "True", "FALSE", "yes", "98765432109876543210987654321"),
    *("null", "NULL", "NA", "N/A", "n/a", "nan", "NaN", "None", "<NA>", "#N/A", "-inf", "2021-03-04", "12:30", ""),
    *(
        " spaces ",
        "a,b",
        'she said "so"',
        "two\nlines",
        "a\rb",
        "a\r\nb",
        "a\u2028b",
        "a\x85b",
        "a\x0bb\x0cc",
        "\ufeffa",
    ),
    *("naïve", "日本語", "a\tb", "{1}", "[]", "'quoted'", "#1"),
]


def folder_of(folder: Path, form: str, content: str | bytes) -> dict[str, Any]:
    """A folder with three equal splits, and the source that names it."""
    folder.mkdir(parents=True)
    for split in ("train", "validation", "test"):
        (folder / f"{split}.{form}").write_bytes(content if isinstance(content, bytes) else content.encode())
    return {"path": str(folder)}


def read(folder: Path, form: str, content: str | bytes, task: Rows = TASK) -> pd.DataFrame:
    fetch_data(folder_of(folder / "data", form, content), task, folder / "out")
    return pd.read_parquet(folder / "out" / "train.parquet")


def refused(folder: Path, form: str, content: str | bytes, *words: str, task: Rows = TASK) -> None:
    source = folder_of(folder / "data", form, content)
    with pytest.raises(UserError) as caught:
        fetch_data(source, task, folder / "out")
    one_sentence(caught.value, f"{source['path']}/train.{form}", *words)
    assert not list((folder / "out").glob("*"))


def rows_of_texts() -> pd.DataFrame:
    return pd.DataFrame({"sentence": TEXTS, "label": [number % 2 for number in range(len(TEXTS))]})


WRITTEN = {
    "csv": lambda rows: rows.to_csv(index=False, quoting=1, lineterminator="\n"),
    "jsonl": lambda rows: "\n".join(json.dumps(row, ensure_ascii=False) for row in rows.to_dict("records")),
    "json": lambda rows: json.dumps(rows.to_dict("records"), indent=2),
}


@pytest.mark.parametrize("start", ["", "\ufeff"], ids=["plain", "byte order mark"])
@pytest.mark.parametrize("form", WRITTEN)
def test_every_text_is_what_was_written(tmp_path: Path, form: str, start: str) -> None:
    found = read(tmp_path, form, start + WRITTEN[form](rows_of_texts()))
    assert found["sentence"].tolist() == TEXTS
    assert list(found) == ["sentence", "label"]


@pytest.mark.parametrize("first", ["sentence", '"sentence"'])
def test_lines_may_end_as_windows_ends_them(tmp_path: Path, first: str) -> None:
    found = read(tmp_path, "csv", f'\ufeff{first},label\r\n007,0\r\n"one\r\ntwo",1\r\n\r\n')
    assert found["sentence"].tolist() == ["007", "one\r\ntwo"]


def test_prompts_and_answers_are_texts(tmp_path: Path) -> None:
    found = read(tmp_path / "a", "csv", "question,answer\n007,1e3\nNA,\n", ASKED)
    assert found.to_dict("list") == {"question": ["007", "NA"], "answer": ["1e3", ""]}
    lines = '{"question": 1.50, "answer": 12345678901234567890123}\n{"question": true, "answer": 1E5}\n'
    found = read(tmp_path / "b", "jsonl", lines, ASKED)
    assert found.to_dict("list") == {"question": ["1.50", "true"], "answer": ["12345678901234567890123", "1E5"]}


def test_rows_of_a_json_list_keep_the_spelling_of_their_numbers(tmp_path: Path) -> None:
    found = read(tmp_path, "json", '[{"sentence": 7.10, "label": 1},\n {"sentence": "x", "label": 0.0}]')
    assert found.to_dict("list") == {"sentence": ["7.10", "x"], "label": [1, 0]}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["a", None], ("row 1", "no value", "'sentence'")),
        ([["a"], ["b", "c"]], ("row 0", "a list", "store the column as text")),
        ([{"a": 1}, {"a": 2}], ("row 0", "an object")),
        ([1.5, 2.0], ("row 0", "the number 1.5")),
        ([b"a", b"b"], ("row 0", "bytes")),
        (pd.to_datetime(["2020-01-01", "2021-01-01"]), ("row 0", "Timestamp")),
    ],
    ids=["missing", "list", "object", "fraction", "bytes", "date"],
)
def test_a_parquet_column_that_is_no_text_is_refused(tmp_path: Path, values: Any, words: tuple[str, ...]) -> None:
    file = tmp_path / "rows.parquet"
    pd.DataFrame({"sentence": values, "label": [0, 1]}).to_parquet(file)
    refused(tmp_path, "parquet", file.read_bytes(), *words)


@pytest.mark.parametrize(
    ("column", "wanted"),
    [
        (pa.array(["007", "a", "007"]).dictionary_encode(), ["007", "a", "007"]),
        (pa.array(["a", "NA", ""], pa.large_string()), ["a", "NA", ""]),
        (pa.array(["a", "b", "c"], pa.string_view()), ["a", "b", "c"]),
        (pa.array([7, -8, 2**62]), ["7", "-8", str(2**62)]),
        (pa.array([True, False, True]), ["true", "false", "true"]),
    ],
    ids=["categories", "large", "views", "whole numbers", "truth"],
)
def test_a_parquet_column_with_one_spelling_is_text(tmp_path: Path, column: Any, wanted: list[str]) -> None:
    file = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"sentence": column, "label": [0, 1, 0]}), file)
    assert read(tmp_path, "parquet", file.read_bytes())["sentence"].tolist() == wanted


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("sentence,label\na,0\nb,\n", ("split 'train'", "row 1", "no value in column 'label'")),
        ("sentence,label\na,0\nb\n", ("line 3", "1 cells", "2 columns")),
        ("sentence,label\na,0\nb,c,1\n", ("line 3", "3 cells", "quotes")),
        ("sentence,label\na\rb,0\n", ("line 2", "carriage return", "quotes")),
        ("sentence,label\ra,0\rb,1\r", ("carriage return", "newlines")),
        ('sentence,label\n"a,0\nb,1\n', ("never closed",)),
        ('sentence,label\n"a" b,0\n', ("line 2", "no CSV")),
        ("sentence,label,label\na,0,1\n", ("two columns", "'label'")),
        ("sentence,label\ncafé,0\n".encode("latin-1"), ("not in UTF-8", "save it as UTF-8")),
        ("sentence,label\na,0\n".encode("utf-16"), ("not in UTF-8",)),
        ("", ("holds no rows",)),
        ("sentence,label\n", ("holds no rows",)),
        ("sentence;label\na;0\n", ("no column 'sentence'", "sentence;label")),
    ],
)  # fmt: skip
def test_a_csv_file_that_can_be_read_in_two_ways_is_refused(
    tmp_path: Path, content: str | bytes, words: tuple[str, ...]
) -> None:
    refused(tmp_path, "csv", content, *words)


@pytest.mark.parametrize(
    ("form", "content", "words"),
    [
        ("jsonl", '{"sentence": "a", "label": 0}\n{"label": 1}\n', ("row 1", "no value", "'sentence'")),
        ("jsonl", '{"sentence": "a", "label": 0}\n{"sentence": NaN, "label": 1}\n', ("row 1", "no value")),
        ("jsonl", '{"sentence": "a", "label": 0}\n\n{"sentence": "b"', ("line 3", "no JSON")),
        ("jsonl", '{"sentence": "a", "label": 0}\n["b", 1]\n', ("line 2", "a list", "object")),
        ("jsonl", '{"sentence": ["a"], "label": 0}\n', ("row 0", "a list", "'sentence'")),
        ("jsonl", '{"sentence": "\\ud83d", "label": 0}\n', ("row 0", "surrogate")),
        ("jsonl", '{"sentence": "a", "label": 0, "\\udc00": 1}\n', ("surrogate",)),
        ("json", '{\n "data": [{"sentence": "a", "label": 0}]\n}', ("an object", "list of objects")),
        ("json", "[1, 2]", ("row 0", "a number")),
        ("json", "[" * 100_000, ("cannot be read",)),
        ("json", '{"sentence": "café", "label": 0}'.encode("latin-1"), ("not in UTF-8",)),
        ("jsonl", "\n\n", ("holds no rows",)),
    ],
)
def test_a_json_file_that_holds_no_rows_of_text_is_refused(
    tmp_path: Path, form: str, content: str | bytes, words: tuple[str, ...]
) -> None:
    refused(tmp_path, form, content, *words)


def test_columns_that_the_task_does_not_read_stop_nothing(tmp_path: Path) -> None:
    lines = [
        {"sentence": "a", "label": 0, "id": 1, "tags": ["x"], "more": {}, "mixed": 1, "large": 10**30},
        {"sentence": "b", "label": 1, "id": 2, "tags": [], "mixed": "one", "half": "\ud800"},
    ]
    found = read(tmp_path, "jsonl", "\n".join(map(json.dumps, lines)))
    assert found["id"].tolist() == [1, 2]
    assert found["tags"].tolist() == ['["x"]', "[]"]
    assert found["mixed"].tolist() == ["1", '"one"']


def test_a_row_of_a_slice_is_named_by_its_place_in_the_file(tmp_path: Path) -> None:
    rows = "".join(f'{{"sentence": "w{number}", "label": {0 if number != 7 else 9}}}\n' for number in range(10))
    source = {
        **folder_of(tmp_path / "data", "jsonl", rows),
        "splits": {"train": "train[:50%]", "validation": "train[50%:]", "test": "test[:3]"},
    }
    with pytest.raises(UserError) as caught:
        fetch_data(source, TASK, tmp_path / "out")
    one_sentence(caught.value, "train.jsonl", "split 'train[50%:]'", "row 7 has label 9")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    served = FakeHub()
    with used_here(served, tmp_path / "cache", monkeypatch):
        yield served


CARDS = {
    "by names alone": "",
    "separators and quotes": "---\nconfigs:\n- config_name: default\n  sep: ';'\n  quotechar: \"'\"\n"
    "  data_files: [{split: train, path: train.*}, {split: validation, path: validation.*}, "
    "{split: test, path: test.*}]\n---\n",
    "options of pandas alone": "---\nconfigs:\n- config_name: default\n  comment: '~'\n"
    "  data_files: [{split: train, path: train.*}, {split: validation, path: validation.*}, "
    "{split: test, path: test.*}]\n---\n",
}


@pytest.mark.parametrize("card", CARDS)
def test_csv_files_of_the_hub_are_read_as_written(hub: FakeHub, tmp_path: Path, card: str) -> None:
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "README.md").write_text(CARDS[card])
    texts = ["007", "1e5", "NA", "", "null", "a;b", "it's"]
    rows = pd.DataFrame({"sentence": texts, "label": [0, 1, 0, 1, 0, 1, 0]})
    separator, quote = (";", "'") if card == "separators and quotes" else (",", '"')
    for split in ("train", "validation", "test"):
        rows.to_csv(folder / f"{split}.csv", index=False, sep=separator, quotechar=quote)
    hub.add("own/texts", folder, "datasets")
    fetch_data({"hub": {"repo": "own/texts", "revision": "main"}}, TASK, tmp_path / "out")
    found = pd.read_parquet(tmp_path / "out" / "test.parquet")
    assert found["sentence"].tolist() == texts
    assert found["label"].tolist() == rows["label"].tolist()


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "json"])
def test_json_files_of_the_hub_are_read_as_written(hub: FakeHub, tmp_path: Path, ending: str) -> None:
    folder = tmp_path / "repository"
    folder.mkdir()
    import gzip

    for split in ("train", "validation", "test"):
        rows = ['{"sentence": "2020-01-01", "label": 0}', '{"sentence": 1.50, "label": "1"}']
        content = (f"[{','.join(rows)}]" if ending == "json" else "\n".join(rows)).encode()
        (folder / f"{split}.{ending}").write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    hub.add("own/texts", folder, "datasets")
    fetch_data({"hub": {"repo": "own/texts", "revision": "main"}}, TASK, tmp_path / "out")
    found = pd.read_parquet(tmp_path / "out" / "validation.parquet")
    assert found.to_dict("list") == {"sentence": ["2020-01-01", "1.50"], "label": [0, 1]}


def test_a_wrong_file_of_the_hub_is_named(hub: FakeHub, tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    folder.mkdir()
    for split in ("train", "validation", "test"):
        (folder / f"{split}.csv").write_text("sentence,label\na,0\nb\n" if split == "test" else "sentence,label\na,0\n")
    hub.add("own/texts", folder, "datasets")
    with pytest.raises(UserError) as caught:
        fetch_data({"hub": {"repo": "own/texts", "revision": "main"}}, TASK, tmp_path / "out")
    one_sentence(caught.value, "own/texts, test.csv", "line 3")
    assert not list((tmp_path / "out").glob("*"))
