"""Suites: equal meaning gives equal content."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.suites import GLUE, SUITE, edited, load
from twin_merging.errors import UserError
from twin_merging.suite.suite import Suite, load_suite


def reversed_keys(content: Any, keep: tuple[str, ...] = ("tasks", "methods")) -> Any:
    """Content with the keys of every mapping reversed, but of those whose order has a meaning."""
    if not isinstance(content, Mapping):
        return content
    inner = {key: reversed_keys(value, ()) for key, value in content.items() if key not in keep}
    ordered = {key: {name: reversed_keys(value, ()) for name, value in content[key].items()} for key in keep}
    return dict(reversed([*inner.items(), *ordered.items()]))


def text_of(suite: Suite) -> str:
    """A suite's content with the order of all keys."""
    return json.dumps(suite.content)


def test_the_order_of_keys_changes_nothing(tmp_path: Path) -> None:
    edits = {
        "methods/sum/scaling": {"one": 0.1, "two": 0.2},
        "protocols": {"mine": {"bias": "base", "norm": "merge"}},
        "methods/twin/router": {"epochs": 3, "dropout": 0.1},
        "tasks/two/expert/finetune/lora": {"r": 2, "alpha": 3},
    }
    one = edited(edits)
    assert text_of(load(tmp_path, one)) == text_of(load(tmp_path, reversed_keys(one)))


def test_the_order_of_tasks_and_methods_is_kept(tmp_path: Path) -> None:
    content = edited({})
    content["tasks"] = dict(reversed(content["tasks"].items()))
    suite = load(tmp_path, content)
    assert list(suite.tasks) == ["two", "one"]
    assert suite.models == ["pretrained", "sum", "sum-strict", "mean", "twin", "expert-two", "expert-one"]


@pytest.mark.parametrize(
    "edits",
    [
        {"family": "encoder", "seed": 0, "protocol": "reference", "protocols": {}},
        {"limits": {}, "inference": {"max_length": 128, "batch_size": 64}},
        {"limits": {"train": None, "test": None}},
        {"tasks/one/text": ["sentence"]},
        {"tasks/one/data/splits": {"train": "train", "validation": "validation", "test": "test"}},
        {"tasks/two/expert/finetune/warmup": 0.06, "tasks/two/expert/finetune/batch_size": 32},
        {"tasks/one/labels": 2.0},
        {"router/epochs": 50, "router/learning_rate": 5.0e-4, "router/features": "last"},
        {"router/kind": "mlp", "router/hidden_size": None, "router/stored": 100, "router/rank": None},
        {"methods/sum/protocol": "reference"},
        {"methods/sum-strict/scaling": 0.3},
        {"methods/mean/weights": None},
        {"methods/twin/shared": "sum"},
        {"methods/twin/head": "oracle", "methods/twin/top_k": None, "methods/twin/temperature": 1},
        {"methods/twin/router": {}},
    ],
    ids=lambda edits: " ".join(edits),
)
def test_writing_a_default_out_changes_nothing(tmp_path: Path, edits: dict[str, Any]) -> None:
    assert text_of(load(tmp_path, edited(edits))) == text_of(load(tmp_path, SUITE))


def test_whole_numbers_stand_for_reals(tmp_path: Path) -> None:
    for path, whole in (("methods/sum/scaling", 1), ("methods/twin/fraction", 1), ("router/weight_decay", 0)):
        suites = [load(tmp_path, edited({path: value})) for value in (whole, float(whole))]
        assert text_of(suites[0]) == text_of(suites[1])
    by_task = [load(tmp_path, edited({"methods/sum/scaling": {"one": v, "two": v}})) for v in (1, 1.0)]
    assert text_of(by_task[0]) == text_of(by_task[1])


def test_merge_keys_and_anchors_are_what_they_stand_for(tmp_path: Path) -> None:
    written_out = """
title: t
base: {path: b}
tasks:
  one: {data: {path: d, splits: {train: "x[:9]", test: y}}, labels: 2, metric: accuracy, expert: {path: e}}
  two: {data: {path: d, splits: {train: "x[:9]", test: z}}, labels: 3, metric: accuracy, expert: {path: e}}
methods: {mean: {method: weight_average}}
"""
    merged = """
title: t
base: {path: b}
tasks:
  one: &one
    data: &data {path: d, splits: &splits {train: "x[:9]", test: y}}
    labels: 2
    metric: accuracy
    expert: {path: e}
  two: {<<: *one, labels: 3, data: {<<: *data, splits: {<<: *splits, test: z}}}
methods: {mean: {method: weight_average}}
"""
    assert text_of(load(tmp_path, merged)) == text_of(load(tmp_path, written_out))


def test_a_local_folder_stands_in_for_glue_on_the_hub(tmp_path: Path) -> None:
    suite = load(tmp_path, edited({"tasks/one/data": GLUE, "tasks/two/data": {"hub": {"repo": "a/b"}}}), glue="my/glue")
    assert suite.tasks["one"].data.plain() == {
        "path": "my/glue/mnli",
        "splits": {"train": "train", "validation": "validation", "test": "validation"},
    }
    assert suite.tasks["two"].data.plain()["hub"]["repo"] == "a/b"
    assert load(tmp_path, edited({"tasks/one/data": GLUE})).tasks["one"].data.splits.test == GLUE["splits"]["test"]


def test_glue_without_the_name_of_a_task_is_refused(tmp_path: Path) -> None:
    content = edited({"tasks/one/data": {"hub": {"repo": "nyu-mll/glue"}}})
    with pytest.raises(UserError, match=r"tasks\.one\.data\.hub: key 'config' is missing"):
        load(tmp_path, content, glue="my/glue")


def test_a_suite_s_name_may_have_points(tmp_path: Path) -> None:
    file = tmp_path / "qwen2.5-0.5b.yaml"
    load(tmp_path, SUITE).file.rename(file)
    assert load_suite(file).name == "qwen2.5-0.5b"
    for wrong in ("a..b", ".a", "a.", "a.-b"):
        with pytest.raises(UserError, match="single hyphens and points, not"):
            load_suite(file.rename(tmp_path / f"{wrong}.yaml"))
        file = tmp_path / f"{wrong}.yaml"
