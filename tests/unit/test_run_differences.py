"""What differs between two runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from tests.runs import METRICS, OPTIONS, ROWS, answers, keep_run
from twin_merging.__main__ import main
from twin_merging.errors import UserError
from twin_merging.io.files import read_json
from twin_merging.reporting.runs.difference import difference
from twin_merging.reporting.runs.kept import kept_runs, read_run
from twin_merging.reporting.runs.markdown import difference_as_markdown
from twin_merging.reporting.runs.score_changes import mcnemar
from twin_merging.reporting.runs.tables import read_table
from twin_merging.scoring.metrics import score
from twin_merging.scoring.resampling import row_counts

CHANGED: dict[str, Any] = {
    "seed": 0,
    "methods": {"sum": {"method": "task_arithmetic", "scaling": 0.4}, "new": {"method": "emr"}},
}


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run_of(folder: Path, tables: Any = None, **given: Any) -> Any:
    keep_run(folder, answers() if tables is None else tables, **given)
    (kept,) = kept_runs(folder / "runs")
    return read_run(kept.file)


def test_options_code_versions_and_sources_that_differ_are_named() -> None:
    one = run_of(Path("a/mine"))
    two = run_of(Path("b/mine"), options=CHANGED, code="b" * 16, torch="2.14.0", revision="two")
    found = difference(one, two)
    assert found["options"] == [
        {"key": "methods.sum.scaling", "change": "changed", "old": 0.3, "new": 0.4},
        {"key": "methods.ties", "change": "removed", "old": OPTIONS["methods"]["ties"], "new": None},
        {"key": "methods.new", "change": "added", "old": None, "new": {"method": "emr"}},
    ]
    assert found["code"] == [{"rule": "merge", "old": "a" * 16, "new": "b" * 16, "jobs": ["ties"]}]
    assert found["versions"] == [{"package": "torch", "old": "2.13.0", "new": "2.14.0"}]
    assert found["sources"] == [{"source": "base", "change": "changed", "old": "one", "new": "two", "files": ["a"]}]
    assert found["scores"]["tasks"] == found["scores"]["averages"] == []
    assert not found["same"]
    text = difference_as_markdown(found)
    for line in ("| `methods.sum.scaling` | `0.3`", "| merge  | ties", "| torch     | 2.13.0", "| base     | `one`"):
        assert line in text
    assert "No score differs, in no row." in text


def test_of_two_runs_that_differ_in_times_alone_nothing_differs() -> None:
    runs = [run_of(Path(place, "mine"), finished=f"2026-01-0{place}T00:00:00+00:00") for place in "23"]
    found = difference(*runs)
    assert found["same"]
    assert found["cost"]["seconds"] != found["cost"]["bytes"]
    assert "Nothing differs but times." in difference_as_markdown(found)


def independent(tables: dict[str, Any], model: str, task: str, count: int) -> np.ndarray:
    """Scores in percent of the first resamples, each of rows written out as often as they were drawn."""
    table = tables[model][tables[model]["task"] == task]
    outputs, references = table["output"].to_numpy(), table["reference"].to_numpy()
    counts = np.concatenate(list(row_counts(task, ROWS)), axis=1)[:, :count].astype(int)
    drawn = [np.repeat(np.arange(ROWS), counts[:, number]) for number in range(count)]
    return 100 * np.array([score(METRICS[task], outputs[rows].tolist(), references[rows].tolist()) for rows in drawn])


def test_intervals_are_of_the_same_rows_in_both_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against resamples that are written out row by row, of methods and of a task's expert that changed too."""
    monkeypatch.setattr("twin_merging.scoring.resampling.RESAMPLES", 40)
    monkeypatch.setattr(row_counts, "__defaults__", (40, 2**9))
    tables = answers(), answers(twin=0.3, **{"expert-both": 0.2})
    one, two = (run_of(Path(place, "mine"), own) for place, own in zip("ab", tables, strict=True))
    found = difference(one, two, threads=2)
    assert found == difference(one, two)
    drawn = {
        (side, model, task): independent(tables[side], model, task, 40)
        for side in (0, 1)
        for task in METRICS
        for model in ("twin", "sum", f"expert-{task}")
    }
    lines = {(line["model"], line["task"]): line for line in found["scores"]["tasks"]}
    assert set(lines) == {*(("twin", task) for task in METRICS), ("experts", "both")}
    for task in METRICS:
        ends = np.quantile(drawn[1, "twin", task] - drawn[0, "twin", task], [0.025, 0.975])
        assert [lines["twin", task][end] for end in ("low", "high")] == pytest.approx(ends, abs=1e-5)
    averages = {(line["scale"], line["model"]): line for line in found["scores"]["averages"]}
    assert set(averages) == {
        *(("normalised", model) for model in ("pretrained", "sum", "ties", "twin")),
        *(("absolute", model) for model in ("twin", "experts")),
    }
    for model in ("twin", "sum"):  # the expert of a task changed, so each model's normalised score did
        sides = [
            np.mean([100 * drawn[side, model, task] / drawn[side, f"expert-{task}", task] for task in METRICS], axis=0)
            for side in (0, 1)
        ]
        line = averages["normalised", model]
        assert [line["low"], line["high"]] == pytest.approx(np.quantile(sides[1] - sides[0], [0.025, 0.975]), abs=1e-5)


def test_accuracies_have_mcnemars_test_and_others_none() -> None:
    tables = answers(), answers(twin=0.5)
    one, two = (run_of(Path(place, "mine"), own) for place, own in zip("ab", tables, strict=True))
    lines = {line["task"]: line for line in difference(one, two)["scores"]["tasks"]}
    right = []
    for table in tables:
        own = table["twin"].query("task == 'right'")
        right.append((own["output"] == own["reference"]).to_numpy())
    gained, lost = (right[1] & ~right[0]).sum(), (right[0] & ~right[1]).sum()
    assert (lines["right"]["gained"], lines["right"]["lost"]) == (gained, lost)
    assert lines["right"]["p"] == pytest.approx(binomtest(gained, gained + lost).pvalue)
    assert not any("p" in lines[task] for task in METRICS if task != "right")


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (3, 9), (9, 3), (50, 50), (700, 900), (0, 900)])
def test_mcnemars_p_is_that_of_the_exact_binomial_test(gained: int, lost: int) -> None:
    wanted = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert mcnemar(gained, lost) == pytest.approx(wanted, rel=1e-9, abs=1e-300)


def test_other_test_rows_are_not_paired_and_that_is_said() -> None:
    other = answers()
    for table in other.values():
        table.loc[table["task"] == "right", "row"] += 1
    one, two = run_of(Path("a/mine")), run_of(Path("b/mine"), other)
    found = difference(one, two)
    assert found["rows"] == [{"task": "right", "old": ROWS, "new": ROWS}]
    assert found["scores"]["unpaired"] == ["right"]
    changed = {**other, "twin": answers(twin=0.5)["twin"]}
    changed["twin"].loc[changed["twin"]["task"] == "right", "row"] += 1
    found = difference(one, run_of(Path("c/mine"), changed))
    ends = {line["task"]: line["low"] for line in found["scores"]["tasks"]}
    assert ends["right"] is None
    assert ends["both"] is not None
    assert {line["low"] for line in found["scores"]["averages"]} == {None}
    assert "no interval: right." in difference_as_markdown(found)


def test_of_tables_only_scores_are_compared_and_only_on_one_scale() -> None:
    text = "model,protocol,true_task,right,avg\ntwin,strict,head,{},{}\nsum,strict,head,,\n"
    one, two = (read_table(text.format(value, value), "t.csv") for value in (90, 91.5))
    found = difference(one, two)
    assert [line["difference"] for line in found["scores"]["tasks"] + found["scores"]["averages"]] == [1.5, 1.5]
    assert "Only the scores of a table are known" in difference_as_markdown(found)
    run = run_of(Path("a/mine"))
    absolute = read_table(text.format(90, 90), "t-absolute.csv")
    (line,) = (line for line in difference(run, absolute)["scores"]["tasks"] if line["model"] == "twin")
    assert line["old"] == pytest.approx(100 * run["models"]["twin"]["scores"]["right"])
    with pytest.raises(UserError, match="one has normalised and one has absolute scores"):
        difference(one, absolute)


def test_what_differs_from_the_run_before_is_written_for_the_page() -> None:
    changes = keep_run(Path("a/mine"), answers()).with_name("changes.json")
    assert (len(read_json(changes)["runs"]), read_json(changes)["difference"]) == (1, None)
    keep_run(Path("a/mine"), answers(twin=0.5), options=CHANGED, finished="2026-01-03T00:00:00+00:00")
    found = read_json(changes)
    assert [run["is_now"] for run in found["runs"]] == [True, False]
    assert found["difference"]["new"]["hash"] == found["runs"][0]["hash"]
    assert found["difference"]["options"][0]["key"] == "methods.sum.scaling"


def test_the_commands_list_runs_and_compare_two(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["runs"]) == 1
    assert "results: holds no runs; make a table" in capsys.readouterr().err
    keep_run(Path("results/mine"), answers())
    keep_run(Path("results/mine"), answers(twin=0.5), finished="2026-01-03T00:00:00+00:00")
    assert main(["runs", "mine"]) == 0
    assert capsys.readouterr().out.count("| mine") == 2
    assert main(["diff", "mine@2", "mine", "--fail-on-change"]) == 1
    assert capsys.readouterr().out.startswith("## mine `")
    assert main(["diff", "mine", "mine", "--fail-on-change", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["same"] is True
    code = (
        "import sys; from twin_merging.__main__ import main; main(['diff', 'mine@2', 'mine']);"
        "print([name for name in ('torch', 'transformers', 'scipy', 'sklearn', 'pandas') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]", "what takes long to import is not needed"
