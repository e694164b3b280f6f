"""Inputs of jobs: what a model, an expert and a router consist of, and what is read for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.plans import edited, suite_of
from twin_merging.errors import UserError
from twin_merging.plan import inputs
from twin_merging.suite.suite import Suite

SUITE = """
title: Two tasks
base: {path: models/base}
tasks:
  one: {data: {path: data/one}, labels: 2, metric: accuracy, expert: {hub: {repo: a/b, adapter: true}}}
  two: {data: {path: data/two}, labels: 2, metric: accuracy, expert: {package: {name: p, path: q}}}
router: {shared: sum}
methods:
  sum: {method: task_arithmetic, scaling: 0.3}
  drop: {method: dare, drop_rate: 0.5, then: {method: ties}}
  regmean: {method: regmean}
  masks: {method: emr}
  twin: {method: twin, fraction: 0.1}
  project: {method: twin, rank: 3, router: {kind: projection, features: {layer: 2}}}
"""
FILES = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
ADAPTER = {"finetune": {"epochs": 1, "learning_rate": 0.1, "lora": {"r": 2}}}


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return suite_of(tmp_path, SUITE)


def names(paths: list[str], folder: str) -> list[str]:
    """Paths below a folder of results."""
    assert all(path.startswith(f"results/mine/{folder}") for path in paths), paths
    return [path.removeprefix(f"results/mine/{folder}") for path in paths]


def test_an_adapter_and_a_checkpoint_consist_of_different_files(suite: Suite) -> None:
    whole = ["config.json", "model.safetensors"]
    adapter = ["adapter_config.json", "adapter_model.safetensors", "source.json"]
    assert names(inputs.expert_files(suite, {"task": "one"}), "experts/one/") == adapter
    assert names(inputs.expert_files(suite, {"task": "two"}), "experts/two/") == whole
    everything = names(inputs.merged_expert_files(suite, {"method": "sum"}), "experts/")
    assert everything == [*(f"one/{name}" for name in adapter), *(f"two/{name}" for name in whole)]


@pytest.mark.parametrize(
    ("model", "more"),
    [
        ("sum", ["private"]),
        ("masks", ["private", "masks"]),
        ("twin", ["private", "exclusive", "router"]),
    ],
)
def test_a_merged_model_is_its_directory(suite: Suite, model: str, more: list[str]) -> None:
    unified = ["unified.safetensors"] if model == "masks" else []
    wanted = [*FILES, "merge.json", *unified, *more]
    for wildcards in ({"model": model}, {"method": model}):
        assert names(inputs.model_files(suite, wildcards), f"models/{model}/") == wanted
    folders = [path for path in inputs.model_files(suite, {"model": model}) if inputs.is_ancient(suite, path)]
    linked = [] if model == "masks" else ["model.safetensors"]  # the weights of `twin` are the file of those of `sum`
    assert names(folders, f"models/{model}/") == [*linked, *more]


@pytest.mark.parametrize("model", ["pretrained", "expert-one"])
def test_a_model_that_is_not_merged_is_read_from_base_and_experts(suite: Suite, model: str) -> None:
    found = inputs.model_files(suite, {"model": model})
    assert names(found[:4], "base/") == FILES
    assert found[4:] == inputs.merged_expert_files(suite, {"method": "sum"})


def test_only_some_methods_read_training_statistics(suite: Suite) -> None:
    assert names(inputs.training_statistics(suite, {"method": "regmean"}), "statistics/gram-matrices/") == [
        "one.safetensors",
        "two.safetensors",
    ]
    assert inputs.training_statistics(suite, {"method": "sum"}) == []


def test_what_is_found_with_all_experts_at_once_is_a_folder_made_of_the_tasks_that_are_merged(tmp_path: Path) -> None:
    own = {"method": "adamerging", "tasks": ["two"]}
    suite = suite_of(tmp_path, edited(SUITE, {"methods/all": {"method": "regmean_plusplus"}, "methods/own": own}))
    assert inputs.training_statistics(suite, {"method": "all"}) == ["results/mine/joint_statistics/all"]
    assert names(inputs.training_rows(suite, {"method": "all"}), "data/") == ["one/train.parquet", "two/train.parquet"]
    assert names(inputs.training_rows(suite, {"method": "own"}), "data/") == ["two/train.parquet"]
    assert {Path(path).parent.name for path in inputs.own_experts(suite, {"method": "own"})} == {"two"}


def test_an_exclusive_vector_is_made_of_its_tasks_vector_or_of_all_of_a_linear_sum_of_adapters(
    suite: Suite, tmp_path: Path
) -> None:
    one = {"shared": "sum", "task": "one"}
    assert names(inputs.compressed_from(suite, one), "task_vectors/") == ["one.safetensors"]
    adapters = suite_of(tmp_path, edited(SUITE, {"tasks/two/expert": ADAPTER}))
    assert names(inputs.compressed_from(adapters, one), "task_vectors/") == ["one.safetensors", "two.safetensors"]
    drop = {"shared": "drop", "task": "one"}
    assert names(inputs.compressed_from(adapters, drop), "task_vectors/") == ["one.safetensors"]


def test_a_router_reads_its_own_features_and_a_projection_the_task_vectors_too(suite: Suite) -> None:
    own = suite.router_name("project")
    assert inputs.router_features(suite, {"router": "sum"}) == "results/mine/router/sum/features/last.safetensors"
    assert inputs.router_features(suite, {"router": own}) == "results/mine/router/sum/features/layer-2.safetensors"
    assert inputs.projected_vectors(suite, {"router": "sum"}) == []
    files = ["one.safetensors", "two.safetensors"]
    assert names(inputs.projected_vectors(suite, {"router": own}), "task_vectors/") == files
    assert names(inputs.assembled_from(suite, {"method": "project"}), "exclusive/sum/") == files
    assert inputs.router_of(suite, {"method": "project"}) == [f"results/mine/router/{own}/router.safetensors"]
    with pytest.raises(KeyError):
        inputs.router_features(suite, {"router": "mean"})


def test_a_router_from_the_hub_is_an_input_of_the_router(suite: Suite, tmp_path: Path) -> None:
    assert inputs.fetched_router(suite, {"router": "sum"}) == []
    fetched = suite_of(tmp_path, edited(SUITE, {"router/hub": {"repo": "a/b"}}))
    assert inputs.fetched_router(fetched, {"router": "sum"}) == ["results/mine/router/sum/fetched.safetensors"]


def test_only_dynamic_methods_have_metrics_of_a_router(suite: Suite) -> None:
    own = suite.router_name("project")
    assert inputs.own_router_metrics(suite, {"method": "sum"}) == []
    assert names(inputs.own_router_metrics(suite, {"method": "twin"}), "router/") == ["sum/metrics.json"]
    assert names(inputs.router_metrics(suite, {}), "router/") == ["sum/metrics.json", f"{own}/metrics.json"]
    assert names(inputs.routed_predictions(suite, {}), "predictions/") == ["twin.parquet", "project.parquet"]


def test_scores_are_of_all_models_on_the_test_rows_of_all_tasks(suite: Suite) -> None:
    assert names(inputs.predictions(suite, {}), "predictions/") == [f"{model}.parquet" for model in suite.models]
    assert names(inputs.test_data(suite, {"model": "sum"}), "data/") == ["one/test.parquet", "two/test.parquet"]
    assert names(inputs.routed_data(suite, {"shared": "sum"}), "data/") == [
        f"{task}/{split}.parquet" for task in ("one", "two") for split in ("train", "validation")
    ]


def test_jobs_that_read_rows_read_what_in_context_examples_are_drawn_from(tmp_path: Path) -> None:
    def read(shots: int, splits: dict[str, str]) -> tuple[list[str], ...]:
        data = {"path": "d", "splits": splits}
        task = {"data": data, "prompt": {"text": "{q}", "shots": shots}, "metric": "exact_match"}
        tasks = {"one": {**task, "expert": {"path": "e"}}}
        methods = {"sum": {"method": "task_arithmetic"}, "twin": {"method": "twin", "shared": "sum", "rank": 1}}
        suite = suite_of(tmp_path, edited(SUITE, {"family": "decoder", "tasks": tasks, "methods": methods}))
        functions = (inputs.test_data, inputs.routed_data, inputs.finetuning_data)
        wildcards = {"task": "one", "model": "sum", "shared": "sum"}
        return tuple(names(function(suite, wildcards), "data/one/") for function in functions)

    train, labels = ["train.parquet", "validation.parquet"], ["label_names.json"]
    assert read(0, {"shots": "dev"}) == (["test.parquet"], train, [*train, *labels])
    assert read(2, {}) == (["test.parquet", "train.parquet"], train, [*train, *labels])
    own = [*train, "shots.parquet"]
    assert read(2, {"shots": "dev"}) == (["test.parquet", "shots.parquet"], own, [*own, *labels])


def test_the_files_of_a_local_source_are_followed(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    edits: dict[str, Any] = {
        "base": {"path": str(folder)},
        "tasks/one/expert": {"path": str(folder)},
        "tasks/one/data": {"path": str(folder)},
    }
    suite = suite_of(tmp_path, edited(SUITE, edits))
    for function in (inputs.base_source, inputs.expert_source, inputs.data_source):
        with pytest.raises(UserError, match=f"path '{folder}' is not a folder with files"):
            function(suite, {"task": "one"})
    for name in ("b.json", "a.json"):
        (folder / name).touch()
    for function in (inputs.base_source, inputs.expert_source, inputs.data_source):
        assert function(suite, {"task": "one"}) == [str(folder / "a.json"), str(folder / "b.json")]
    assert inputs.expert_source(suite, {"task": "two"}) == []


def test_published_scores_are_read_before_they_are_compared_with(suite: Suite, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"mine\.yaml: key 'published' is missing"):
        inputs.published_scores(suite, {})
    scores = tmp_path / "scores.csv"
    compared = suite_of(tmp_path, edited(SUITE, {"published": str(scores)}))
    with pytest.raises(UserError, match=r"scores\.csv"):
        inputs.published_scores(compared, {})
    scores.write_text("model,task,scale,value,source\nsum,one,absolute,50,here\n")
    assert inputs.published_scores(compared, {}) == str(scores)


LABELLED = {"data": {"path": "data/one"}, "labels": 3, "metric": "accuracy", "expert": {"path": "models/one"}}


@pytest.mark.parametrize(
    ("changes", "files", "path", "hub"),
    [
        ({}, ["train.parquet"], True, False),
        ({}, ["train.csv", "test.jsonl"], False, False),
        ({"label_names": ["a", "b", "c"]}, ["train.parquet"], False, False),
        ({"labels": 1, "metric": "pearson_spearman"}, ["train.parquet"], False, False),
        ({"data": {"hub": {"repo": "a/b"}}}, [], False, True),
        ({"data": {"hub": {"repo": "a/b"}}, "label_names": ["a", "b", "c"]}, [], False, False),
        ({"data": {"hub": {"repo": "a/b"}}, "labels": 1, "metric": "pearson_spearman"}, [], False, False),
        ({"data": {"generate": {"task": "inference"}}, "text": ["premise", "hypothesis"]}, [], False, False),
    ],
)
def test_the_fetch_of_an_expert_reads_what_the_data_may_call_its_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], files: list[str], path: bool, hub: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data/one").mkdir(parents=True)
    for name in files:
        Path("data/one", name).touch()
    suite = suite_of(tmp_path, edited(SUITE, {"tasks/one": {**LABELLED, **changes}}))
    wanted = ["results/mine/data/one/label_names.json"]
    assert inputs.path_label_names(suite, {"task": "one"}) == (wanted if path else [])
    assert inputs.hub_label_names(suite, {"task": "one"}) == (wanted if hub else [])


def test_the_fetch_of_a_language_model_asks_for_no_names_of_labels(tmp_path: Path) -> None:
    task = {"data": {"hub": {"repo": "a/b"}}, "prompt": "{q}", "metric": "exact_match", "expert": {"path": "models/x"}}
    methods = {"sum": {"method": "task_arithmetic", "scaling": 0.3}}
    edits = {"family": "decoder", "tasks": {"one": task}, "methods": methods}
    suite = suite_of(tmp_path, edited(SUITE, edits))
    assert inputs.path_label_names(suite, {"task": "one"}) == inputs.hub_label_names(suite, {"task": "one"}) == []
