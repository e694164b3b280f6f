"""Runs: what is kept of a finished table, when, and how it is named and listed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.runs import METRICS, OPTIONS, answers, keep_run
from twin_merging.errors import UserError
from twin_merging.io.files import read_json
from twin_merging.reporting.runs.history import list_of_runs
from twin_merging.reporting.runs.kept import in_order, kept_runs, parsed, read_run
from twin_merging.reporting.runs.naming import run_named
from twin_merging.reporting.runs.rows import digest_of, pack, references_of, rows_of, unpack
from twin_merging.scoring.metrics import METRICS as EVERY_METRIC
from twin_merging.scoring.metrics import score

OTHER = {**OPTIONS, "seed": 1}
LATER, LAST = "2026-01-03T00:00:00.000+00:00", "2026-01-04T00:00:00.000+00:00"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of suite `mine` in a results folder of the working directory."""
    monkeypatch.chdir(tmp_path)
    return Path("results/mine")


@pytest.mark.parametrize("metric", EVERY_METRIC)
def test_what_is_kept_of_rows_gives_their_score_back(metric: str) -> None:
    draw = np.random.default_rng(0)
    texts = metric in ("exact_match", "quasi_exact_match", "rouge2")
    one: Any = ["a cat sat", "the cat sat down", "no"] if texts else [0.0, 1.0, 2.0]
    if metric == "pearson_spearman":
        one = draw.normal(size=9).astype(np.float32)
    outputs, references = (draw.choice(one, 30).tolist() for _ in range(2))
    if texts:
        references = [[reference, "no"] for reference in references]
    rows, kept = rows_of(metric, outputs, references), references_of(metric, references)
    back = unpack(json.loads(json.dumps(pack(rows))))
    assert back.dtype == rows.dtype
    assert (back == rows).all()
    if kept is None:
        assert back.mean() == pytest.approx(score(metric, outputs, references))
    else:
        wanted = score(metric, outputs, references)
        assert score(metric, back.tolist(), unpack(pack(kept)).tolist()) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize(
    ("labels", "kind", "size"),
    [([0, 1, 1], "binary", 1), ([0, 2, -1], "int8", 3), ([0, 300, 1], "int16", 6), ([], "int8", 0)],
)
def test_labels_take_as_few_bytes_as_hold_them(labels: list[int], kind: str, size: int) -> None:
    packed = pack(np.array(labels, dtype=np.int64))
    assert packed["type"] == kind
    assert len(packed["data"]) == 4 * -(-size // 3)
    assert unpack(packed).tolist() == labels


@pytest.mark.parametrize("rows", [np.ones(9, bool), np.zeros(9, np.float32), np.arange(9)])
def test_rows_that_are_not_all_there_are_noticed(rows: np.ndarray) -> None:
    with pytest.raises(ValueError, match="should hold 20"):
        unpack({**pack(rows), "rows": 20})


def test_rows_with_other_numbers_or_references_have_another_digest() -> None:
    assert digest_of([0, 1], [1.0, 0.0]) == digest_of([0, 1], [1.0, 0.0])
    assert len({digest_of([0, 1], [1.0, 0.0]), digest_of([0, 2], [1.0, 0.0]), digest_of([0, 1], [["a"], ["b"]])}) == 3


def test_a_run_says_what_it_was_made_from_with_what_and_how_it_scored(folder: Path) -> None:
    newest = keep_run(folder, answers())
    (kept,) = kept_runs(folder / "runs")
    assert kept.file.name == f"20260102T030405Z-{kept.hash}.json"
    assert read_json(newest)["run"] == kept.hash
    run = read_run(kept.file)
    assert run["options"] == {**OPTIONS, "threads": {}}
    assert run["code"] == {"merge/ties": "a" * 16, "score/ties": "f" * 16}
    assert run["versions"] == {"python": "3.11.7", "torch": "2.13.0"}
    assert run["sources"] == {"base": {"kind": "hub", "revision": "one", "files": {"a": ("one" * 30)[:16]}}}
    assert run["cost"] == {"seconds": {"merge/ties": 5.678, "score/ties": 5.678}, "bytes": {"ties": 1000}}
    lines = pd.read_csv(folder / "scores.csv")
    for model, task, value in zip(lines["model"], lines["task"], lines["value"], strict=True):
        assert run["models"][model]["scores"][task] == value
    assert set(run["models"]["twin"]["rows"]) == set(METRICS)
    assert set(run["models"]["expert-both"]["rows"]) == {"both"}
    assert kept.file.stat().st_size < 20_000


def test_the_same_content_is_kept_once_and_a_run_that_comes_back_is_the_one_that_is_there_now(folder: Path) -> None:
    keep_run(folder, answers())
    keep_run(folder, answers(), finished=LATER)
    (first,) = kept_runs(folder / "runs")
    keep_run(folder, answers(), options=OTHER, finished=LATER)
    assert in_order(folder / "runs")[0].hash == first.hash
    keep_run(folder, answers(), finished=LAST)
    second, now = in_order(folder / "runs")
    assert now == first
    lines = list_of_runs(folder / "runs")
    assert [(line["hash"], line["is_now"], line["changed"]) for line in lines] == [
        (first.hash, True, "options: seed 1 -> 0"),
        (second.hash, False, ""),
    ]
    assert [line["model"] for line in lines[0]["headline"]][1:] == ["twin"]
    assert all(line["low"] <= line["value"] <= line["high"] for line in lines[0]["headline"])


@pytest.mark.usefixtures("folder")
def test_the_same_run_has_the_same_hash_elsewhere_and_at_another_time() -> None:
    names = [keep_run(Path(place, "mine"), answers(), finished=LAST).read_bytes() for place in ("a", "b")]
    assert names[0] == names[1] == keep_run(Path("c/mine"), answers()).read_bytes()


def test_a_run_that_cannot_be_read_is_in_nobodys_way(folder: Path) -> None:
    keep_run(folder, answers())
    (kept,) = kept_runs(folder / "runs")
    for time, text in ("20250101T000000Z", "{"), ("20250102T000000Z", '{"format": 9}'), ("20250103T000000Z", "[]"):
        kept.file.with_name(f"{time}-{kept.hash[::-1]}.json").write_text(text)
    keep_run(folder, answers(), options=OTHER, finished=LATER)
    found = read_json(folder / "runs/changes.json")
    assert [run["changed"] for run in found["runs"]] == ["options: seed 0 -> 1", ""]
    assert found["difference"]["old"]["hash"] == kept.hash


def test_names_of_runs(folder: Path) -> None:
    keep_run(folder, answers())
    keep_run(folder, answers(), options=OTHER, finished=LATER)
    keep_run(Path("results/other"), answers())
    first, second = kept_runs(folder / "runs")
    results = Path("results")
    for name in ("mine", "mine@1", str(folder), str(folder / "runs"), second.hash, second.hash[:5], str(second.file)):
        assert run_named(name, results)["hash"] == second.hash, name
    assert run_named("mine@2", results)["hash"] == first.hash
    assert run_named("results", results, "mine")["hash"] == second.hash


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("results", "results: holds runs of mine, other; name one with --suite"),
        ("mine@9", "results/mine/runs: holds 1 runs, and no run 9"),
        ("mine@0", "no run 0"),
        ("mein@1", "results: unknown suite 'mein' (did you mean 'mine'?); allowed: mine, other"),
        ("0000", "results: no run begins with '0000'"),
        ("nothing", "'nothing': no file, no folder, no suite of results and no run's hash"),
        ("HEAD:nothing", "'HEAD:nothing': git cannot show it"),
        ("results/mine/scores.csv", "no table of scores, which has the columns 'model' and 'avg'"),
        ("results/mine/base/source.json", "results/mine/base/source.json: not a run's snapshot"),
    ],
)
def test_a_name_of_nothing_is_said_in_a_sentence(folder: Path, name: str, message: str) -> None:
    keep_run(folder, answers())
    keep_run(Path("results/other"), answers(twin=0.5))
    with pytest.raises(UserError) as error:
        run_named(name, Path("results"))
    assert message in str(error.value)


def test_a_snapshot_of_another_format_is_named_as_such() -> None:
    with pytest.raises(UserError, match="of format 9, not 1"):
        parsed(json.dumps({"format": 9, "hash": "", "options": {}, "tasks": {}, "models": {}}), "x.json")


def test_files_of_a_commit_are_read_by_git(folder: Path) -> None:
    keep_run(folder, answers())
    Path("mine.csv").write_text("model,protocol,true_task,right,avg\ntwin,strict,head,90.5,90.5\n")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "a state"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *command], check=True)
    (kept,) = kept_runs(folder / "runs")
    Path("mine.csv").write_text("")
    assert run_named("HEAD:mine.csv", Path("results"))["scores"] == {"twin": {"right": 90.5, "avg": 90.5}}
    assert run_named(f"HEAD:{kept.file}", Path("results"))["hash"] == kept.hash
