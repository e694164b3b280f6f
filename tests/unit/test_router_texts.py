"""`router_texts`: texts that a router is trained on in the place of a task's train rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from tests.plans import planned, stale
from tests.suites import SUITE, load, refused
from tests.suites import edited as in_suite
from tests.tiny import sentences
from twin_merging.errors import UserError
from twin_merging.io.tensors import Checkpoint
from twin_merging.plan import inputs
from twin_merging.plan.groups import group_of
from twin_merging.routing.features import extract_features
from twin_merging.routing.sources import read_texts
from twin_merging.tasks.families import family_named

PAIRS = [{"premise": "w1 w2", "hypothesis": "w3"}, {"premise": "w4", "hypothesis": "w5 w6"}]


def write(file: Path, rows: list[dict[str, str]]) -> Path:
    match file.suffix:
        case ".jsonl":
            file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        case ".json":
            file.write_text(json.dumps(rows))
        case ".csv":
            pd.DataFrame(rows).to_csv(file, index=False)
        case ".parquet":
            pd.DataFrame(rows).to_parquet(file)
    return file


@pytest.mark.parametrize("end", ["jsonl", "json", "csv", "parquet"])
def test_a_row_has_the_columns_that_the_task_reads(end: str, tmp_path: Path) -> None:
    file = write(tmp_path / f"texts.{end}", PAIRS)
    assert read_texts(file, ("premise", "hypothesis")).to_dict("records") == PAIRS
    assert len(read_texts(file, ("hypothesis",), 1)) == 1
    with pytest.raises(UserError, match=rf"texts\.{end}: no column 'sentence'; it has premise, hypothesis"):
        read_texts(file, ("sentence",))


def test_a_text_a_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\n two  \nthree\n", encoding="utf-8-sig")
    assert read_texts(tmp_path / "a.txt", ("sentence",))["sentence"].tolist() == ["one", " two  ", "three"]
    assert read_texts(tmp_path / "a.txt", ("sentence",), 2)["sentence"].tolist() == ["one", " two  "]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"\n \n", "holds no texts; give it some"),
        ("a.txt", b"caf\xe9\n", "byte 3 is not UTF-8; store the file as UTF-8"),
        ("a.jsonl", b'{"sentence": "w1"}\n{"sentence": null}\n', "row 1 has no value in column 'sentence'"),
        ("a.parquet", b"PAR?", "no parquet file"),
    ],
)
def test_a_wrong_file_is_said_in_one_sentence(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_texts(tmp_path / name, ("sentence",))
    assert str(caught.value).startswith(f"{tmp_path / name}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_features_of_train_rows_are_those_of_the_texts(fetched: Path, tmp_path: Path) -> None:
    """As of a task whose train rows they are; held-out rows stay the task's."""
    table = sentences(3, 6, 2, ("sentence",))
    others = sentences(4, 5, 2, ("sentence",))
    for name, train in (("mine", table), ("other", others)):
        (tmp_path / name).mkdir()
        train.to_parquet(tmp_path / name / "train.parquet")
        table.to_parquet(tmp_path / name / "validation.parquet")
    (tmp_path / "texts.txt").write_text("".join(f"{text}\n" for text in others["sentence"]))
    family = family_named("encoder")

    def features(folder: str, **texts: Any) -> Any:
        data = {"mine": tmp_path / folder}
        views = family.views(family.inputs, {"mine": {"text": ["sentence"]}}, data)
        inference = {"max_length": 24, "batch_size": 4}
        extract_features(shared=fetched / "base", data=data, tasks=views, limits={"router": 4, "validation": None},
                         inference=inference, features="last", output=tmp_path / "found", **texts)  # fmt: skip
        return dict(Checkpoint(tmp_path / "found"))

    plain, wanted, found = (
        features("mine"), features("other"), features("mine", texts={"mine": tmp_path / "texts.txt"})
    )  # fmt: skip
    assert found["mine/train"].shape[0] == 4
    assert torch.equal(found["mine/train"], wanted["mine/train"])
    assert torch.equal(found["mine/validation"], plain["mine/validation"])
    assert not torch.equal(found["mine/train"], plain["mine/train"])


# -- suites


def test_what_is_planned(tmp_path: Path) -> None:
    file = write(tmp_path / "two.csv", PAIRS)
    before = load(tmp_path, SUITE)
    suite = load(tmp_path, in_suite({"tasks/two/router_texts": {"path": str(file)}}))
    assert stale(before, suite) == {"route_features(sum/last)", "snapshot()"}
    assert "'texts': ['two']" in planned(suite)["route_features(sum/last)"]
    wildcards = {"shared": "sum", "features": "last"}
    assert inputs.routed_texts(before, wildcards) == []
    assert inputs.routed_texts(suite, wildcards) == [str(file)]
    read = inputs.routed_data(suite, wildcards)
    assert [name for name in inputs.routed_data(before, wildcards) if name not in read] == [
        "results/mine/data/two/train.parquet"
    ]
    few = {"limits": {"router": 5, "validation": 5}}
    others = {"tasks/two/router_texts": {"path": str(file)}}
    suites = [load(tmp_path, in_suite({**few, **own})) for own in ({}, others)]
    apart = [group_of(one, "route_features", wildcards, {}, apart=True) for one in suites]
    assert apart[0] is not None
    assert apart[1] is None
    file.unlink()
    with pytest.raises(UserError, match=r"^router_texts\.path: '.*two\.csv' is no file; name one"):
        inputs.routed_texts(suite, wildcards)


def test_a_form_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    for task, path, said in (
        ("one", "a.doc", "tasks.one.router_texts.path: 'a.doc' must end in .txt, .jsonl, .json, .csv, .parquet"),
        (
            "two",
            "a.txt",
            "tasks.two.router_texts.path: 'a.txt' has a text a line, but the task reads premise, hypothesis",
        ),
    ):
        refused(tmp_path, in_suite({f"tasks/{task}/router_texts": {"path": path}}), said)
    assert load(tmp_path, in_suite({"tasks/one/router_texts": {"path": "a.txt"}})).tasks["one"].router_texts
