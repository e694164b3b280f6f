"""A small results folder, made up, with texts that would break out of a page that does not escape them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tests.plans import suite_of
from twin_merging.io.files import write_json
from twin_merging.plan import settings
from twin_merging.reporting.page.page import Files, write_page
from twin_merging.suite.suite import Suite

HOSTILE = (
    "</script><script>window.broken = 1</script>",
    '<img src=x onerror="window.broken = 2">',
    "'\" onfocus='window.broken = 3' autofocus=\"",
    "a\u2028b\u2029c \\u003c/script\\u003e <!-- {{ 7 * 7 }} {% raw %}",
    "\u202eevil \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 \ud7ff\U0001f600",
    "long " * 2000,
    "one_word_without_any_space_" * 60,
)
SUITE = """
title: "Two tasks </title><script>window.broken = 4</script> & 'more'"
family: encoder
base: {path: "models/<b>base</b>"}
tasks:
  labels:
    data: {path: data/labels}
    text: [premise, hypothesis]
    labels: 2
    metric: accuracy
    expert: {path: models/labels}
  values:
    data: {path: data/values}
    labels: 1
    metric: pearson_spearman
    expert: {finetune: {epochs: 2, learning_rate: 1.0e-4}}
router: {shared: sum}
methods:
  sum: {method: task_arithmetic, scaling: 0.3}
  mean: {method: weight_average}
  masks: {method: emr}
  twin: {method: twin, fraction: 0.1}
  twin-strict: {method: twin, shared: sum-strict, fraction: 0.1, protocol: strict}
  sum-strict: {method: task_arithmetic, scaling: 0.3, protocol: strict}
"""
DECODERS = """
title: One task of a language model
family: decoder
protocol: strict
base: {path: models/base}
tasks:
  questions:
    data: {path: data/questions}
    prompt: {text: "Question: {question}\\nAnswer:", shots: 2}
    metric: quasi_exact_match
    expert: {path: models/questions}
  summaries:
    data: {path: data/summaries}
    prompt: "{article}\\nIn short:"
    target: summary
    answer: summary
    metric: rouge2
    expert: {path: models/summaries}
router: {shared: sum}
methods:
  sum: {method: task_arithmetic, scaling: 0.3}
  twin: {method: twin, rank: 4}
"""
ROWS = 24
SVG = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 400 300" width="400" height="300">
<title>Bars &amp; more</title>
<desc>Bars of two tasks.
twin 99, sum 61</desc><script>window.broken = 5</script><rect width="300" height="200" fill="#36a"/></svg>"""


def make_results(folder: Path, text: str = SUITE) -> tuple[Suite, Files]:
    """Write what the page of a suite is made from below `folder`."""
    suite = suite_of(folder, text, "mine")
    results, tables = folder / "results/mine", folder / "results/tables"
    for place in (results / "predictions", results / "runs", results / "choices", tables):
        place.mkdir(parents=True, exist_ok=True)
    for task in suite.tasks:
        _write_rows(results / "data" / task, suite, task)
    for model in suite.models:
        _write_predictions(results / "predictions" / f"{model}.parquet", suite, model)
    _write_tables(tables, results, suite)
    write_json(results / "runs/changes.json", history(2))
    write_json(results / "provenance.json", provenance(suite))
    choice = {"name": "mean", "chosen": {"scaling": 0.3}, "options": {"scaling": [0.2, 0.3]}, "rows": {"labels": 10}}
    write_json(results / "choices/mean.json", choice)
    (folder / "figure.svg").write_text(SVG)
    names = ("absolute", "experts", "unseen", "router", "routing", "cost")
    return suite, Files(
        normalised=tables / "mine.csv",
        **{name: tables / f"mine-{name}.csv" for name in names},
        intervals=results / "intervals.csv",
        runs=results / "runs/changes.json",
        provenance=results / "provenance.json",
        predictions={model: results / "predictions" / f"{model}.parquet" for model in suite.models},
        data={task: results / "data" / task for task in suite.tasks},
        choices=[results / "choices/mean.json"],
        figures=[folder / "figure.svg"],
        audit=None,
    )


def make_page(folder: Path, text: str = SUITE) -> Path:
    suite, files = make_results(folder, text)
    page = folder / "index.html"
    write_page(settings.of_job(suite, "page", {"suite": "mine"}), files, page)
    return page


def _write_rows(folder: Path, suite: Suite, task: str) -> None:
    folder.mkdir(parents=True)
    texts = [HOSTILE[row % len(HOSTILE)] for row in range(ROWS)]
    columns = {name: [f"{name}: {text}" for text in texts] for name in suite.tasks[task].needed}
    pd.DataFrame(columns).to_parquet(folder / "test.parquet")
    names = [HOSTILE[0], HOSTILE[1]] if task == "labels" else None
    write_json(folder / "label_names.json", {"names": names})


def _write_predictions(file: Path, suite: Suite, model: str) -> None:
    lines = []
    for number, task in enumerate(suite.tasks):
        for row in range(ROWS):
            output, reference = _answer(suite.tasks[task].metric, row, model)
            weights = None if model not in suite.dynamic else [0.004] * len(suite.tasks)
            if weights is not None:
                weights[number] = 1 - 0.004 * (len(weights) - 1)
            lines.append({"task": task, "row": row, "output": output, "reference": reference, "weights": weights})
    pd.DataFrame(lines).to_parquet(file)


def _answer(metric: str, row: int, model: str) -> tuple[Any, Any]:
    """twin is right but for every fourth row, the others but for every second."""
    is_right = row % (4 if model == "twin" else 2) > 0
    if metric == "accuracy":
        return float(row % 2 if is_right else 1 - row % 2), float(row % 2)
    if metric == "pearson_spearman":
        return row / 4 + (0 if is_right else 1), row / 4
    right = HOSTILE[row % len(HOSTILE)]
    return (right if is_right else "something else"), [right, "another"]


def _write_tables(tables: Path, results: Path, suite: Suite) -> None:
    tasks = list(suite.tasks)
    models = ["pretrained", *suite.methods, "experts"]
    scores = {model: [30.0 + 7 * place + number for number in range(len(tasks))] for place, model in enumerate(models)}
    lines: list[dict[str, Any]] = [
        {"model": model, "protocol": "strict" if "strict" in model else "reference", "true_task": "head+bias",
         **dict(zip(tasks, own, strict=True)), "avg": sum(own) / len(own)}
        for model, own in scores.items()
    ]  # fmt: skip
    lines[1][tasks[-1]] = None  # a task without a score
    for name in ("", "-absolute"):
        pd.DataFrame(lines).to_csv(tables / f"mine{name}.csv", index=False)
    _csv(tables / "mine-experts.csv", [{"expert": task, **dict.fromkeys(tasks, 50.5)} for task in tasks])
    unseen = {"model": "mean", "left_out": "labels", "protocol": "strict", "true_task": "head", tasks[0]: 40, "avg": 40}
    _csv(tables / "mine-unseen.csv", [unseen])
    measured = {"measure": "test accuracy", **dict.fromkeys(tasks, 99.0), "avg": 99.0}
    _csv(tables / "mine-router.csv", [{"model": model, **measured} for model in suite.dynamic])
    _csv(tables / "mine-routing.csv", [
        {"model": model, "rows": rows, "task": task, **{other: 290 if other == task else 10 for other in tasks}}
        for model in suite.dynamic for rows in ("held-out", "test") for task in tasks
    ])  # fmt: skip
    costs = {"rank": "", "store": "float32", "parameters": 1000, "bytes": 4000, "shared_bytes": 3000,
             "exclusive_bytes": 900, "private_bytes": 100, "router_bytes": 0, "merge_seconds": 1.5,
             "predict_seconds": 2.5, "rows": 48, "peak_mib": 512.4}  # fmt: skip
    _csv(tables / "mine-cost.csv", [{"model": model, "kind": "static", **costs} for model in models])
    _csv(results / "intervals.csv", [
        {"scale": scale, "model": line["model"], "task": task, "value": line[task], "low": line[task] - 3,
         "high": line[task] + 3, "than": "mean", "difference": 2, "difference_low": -1, "difference_high": 5,
         "mark": {"twin": "best", "masks": "second"}.get(line["model"], "")}
        for scale in ("normalised", "absolute") for line in lines for task in [*tasks, "avg"] if line[task] is not None
    ])  # fmt: skip


def _csv(file: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    pd.DataFrame(lines).to_csv(file, index=False)


def history(count: int) -> dict[str, Any]:
    """What stage snapshot writes of so many runs."""
    told = {"suite": "mine", "finished": "2030-01-02T03:04:05+00:00", "commit": "abcdef0123456789", "file": "x.json",
            "headline": [{"model": "twin", "kind": "dynamic", "value": 99.0}], "changed": HOSTILE[0]}  # fmt: skip
    runs = [{**told, "hash": f"{number:08x}", "clean": number > 0, "is_now": number == 0} for number in range(count)]
    line = {"model": "twin", "task": "labels", "metric": "accuracy", "old": 50.0, "new": 52.5, "difference": 2.5,
            "low": -1.0, "high": 6.0, "gained": 3, "lost": 1, "p": 0.625}  # fmt: skip
    average = {**line, "scale": "normalised", "task": "avg"}
    difference = {
        "old": {"hash": "00000001"}, "new": {"hash": "00000000"}, "same": False,
        "options": [{"key": "methods.sum.scaling", "change": "changed", "old": 0.2, "new": HOSTILE[1]}],
        "code": [{"rule": "merge", "old": "0123", "new": "4567", "jobs": ["sum"]}], "versions": [], "sources": [],
        "rows": [], "scores": {"averages": [average], "tasks": [line], "unpaired": [], "added": [], "removed": ["old"]},
        "cost": {"seconds": {"old": 100.0, "new": 90.0}, "rules": [], "bytes": []},
    }  # fmt: skip
    return {"runs": runs, "difference": difference if count > 1 else None}


def provenance(suite: Suite) -> dict[str, Any]:
    source = {"kind": "path", "source": {"path": HOSTILE[0]}, "pinned": None, "revision": None, "fetched": None}
    return {
        "format": 1,
        "suite": {"name": "mine", "file": "mine.yaml", "content": {}},
        "rows": {task: {"train": 100, "validation": 10, "test": ROWS} for task in suite.tasks},
        "sources": {"base": {**source, "files": {"model.safetensors": {"sha256": "ab" * 32}}}},
        "jobs": [{"started": "2030-01-02T03:04:05", "finished": "2030-01-02T03:05:05", "environment": 0}],
        "environments": [{
            "software": {"python": "3.11", "torch": "2.9", "lm_eval": None},
            "hardware": {"system": "Linux", "processor": HOSTILE[1], "cores": 2, "memory": 8e9, "gpus": []},
            "git": {"commit": "abcdef", "clean": False, "changed": [HOSTILE[2]]},
        }],
    }  # fmt: skip


def audit_report(verdict: str, provenance_hash: str) -> str:
    checks = [{"title": "Files match", "verdict": verdict, "summary": HOSTILE[0]}]
    report = {"verdict": verdict, "finished": "2030-01-02T03:04:05", "checks": checks, "failed": [],
              "provenance": provenance_hash}  # fmt: skip
    return json.dumps(report)
