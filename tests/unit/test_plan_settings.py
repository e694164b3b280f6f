"""Each change of a suite changes the settings of exactly the jobs whose outputs it changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.plans import REMOVED, edited, planned, stale, suite_of
from twin_merging.plan import modules, settings
from twin_merging.plan.settings import RULES
from twin_merging.plan.settings_models import linear_coefficients
from twin_merging.plan.settings_scores import true_task
from twin_merging.plan.targets import jobs
from twin_merging.suite.suite import load_suite

ROOT = Path(__file__).parents[2]
SUITE = """
title: Three tasks
base: {path: models/base}
tasks:
  made:
    data: {generate: {task: sentiment}}
    labels: 2
    metric: accuracy
    expert: {finetune: {epochs: 2, learning_rate: 1.0e-4}}
  own:
    data: {path: data/own}
    text: [premise, hypothesis]
    labels: 3
    metric: accuracy
    expert: {path: models/own}
router: {shared: sum}
methods:
  sum: {method: task_arithmetic, scaling: 0.3}
  drop: {method: dare, drop_rate: 0.5, then: {method: ties}}
  fisher: {method: fisher}
  masks: {method: emr}
  twin: {method: twin, fraction: 0.1}
  near: {method: twin, rank: 3, router: {kind: neighbours, features: embedding}}
"""
ROUTER, NEAR = "route(sum)", "route(sum/neighbours-embedding-22d913)"
FEATURES = {"route_features(sum/last)", "route_features(sum/embedding)"}
COMPRESSED = {"compress(sum/made)", "compress(sum/own)"}
TWINS = {"assemble(twin)", "assemble(near)"}
MERGED = {"merge(sum)", "merge(drop)", "merge(fisher)", "merge_masked(masks)"}
MODELS = ("pretrained", "sum", "drop", "fisher", "masks", "twin", "near", "expert-made", "expert-own")
PREDICTED = {f"predict({model})" for model in MODELS}
STATISTICS = {"training_statistics(fisher/made)", "training_statistics(fisher/own)"}
LIST = {"score()", "tabulate()"}  # say what there is, and how it was made
EVERY = {*LIST, "intervals()", "storage()"}  # say what there is

CHANGES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "nothing": ({}, set()),
    "a default written out": (
        {"seed": 0, "base/dtype": "float32", "methods/twin/temperature": 1.0, "limits": {"test": None}},
        set(),
    ),
    "the title": ({"title": "Others"}, {"tabulate()"}),
    "the seed": ({"seed": 3}, {"generate_data(made)", "finetune(made)", "merge(drop)", ROUTER}),
    "the base": ({"base": {"path": "models/other"}}, {"fetch_base()"}),
    "shards": ({"shards": 4}, set()),
    "published scores": ({"published": "scores.csv"}, set()),
    # Methods
    "a method added": (
        {"methods/ties": {"method": "ties"}},
        {"merge(ties)", "predict(ties)", *EVERY},
    ),
    "a method removed": ({"methods/fisher": REMOVED}, EVERY),
    "a method's option": ({"methods/drop/drop_rate": 0.6}, {"merge(drop)"}),
    "an inner method's option": ({"methods/drop/then/density": 0.3}, {"merge(drop)"}),
    "a shared expert's option": ({"methods/sum/scaling": 0.4}, {"merge(sum)"}),
    "a method's protocol": ({"methods/drop/protocol": "strict"}, {"merge(drop)", *LIST}),
    "the suite's protocol": (
        {"protocol": "strict"},
        MERGED | COMPRESSED | TWINS | LIST | {"predict(twin)", "predict(near)"},
    ),
    "a smaller rank": ({"methods/near/rank": 2}, {*COMPRESSED, "assemble(near)"}),
    "a smaller fraction beside a larger one": (
        {"methods/small": {"method": "twin", "fraction": 0.05}},
        {"assemble(small)", "predict(small)", *EVERY},
    ),
    "a dynamic method's temperature": ({"methods/twin/temperature": 2.0}, {"assemble(twin)"}),
    "a dynamic method's head": ({"methods/twin/head": "routed"}, {"assemble(twin)", "predict(twin)", "tabulate()"}),
    # Routers
    "an option of the suite's router": ({"router/epochs": 3}, {ROUTER, "assemble(twin)"}),
    "an option of no router that there is": ({"router/rank": 3}, set()),
    "a method's router": (
        {"methods/twin/router": {"epochs": 3}},
        {"route(sum/mlp-last-PLACE)", "assemble(twin)"},
    ),
    "the suite's router written out for a method": ({"methods/twin/router": {"epochs": 50}}, set()),
    # Tasks
    "a metric": (
        {"tasks/made/metric": "accuracy_f1"},
        {"finetune(made)", "score()", "intervals()"},
    ),
    "rows of data": ({"tasks/own/data/path": "data/others"}, {"fetch_data(own)"}),
    "rows of generated data": ({"tasks/made/data/generate/train": 3}, {"generate_data(made)"}),
    "a split": ({"tasks/own/data/splits": {"test": "dev"}}, {"fetch_data(own)"}),
    "text columns": (
        {"tasks/own/text": ["a", "b"]},
        {"fetch_data(own)", "training_statistics(fisher/own)", *FEATURES, *PREDICTED},
    ),
    "labels": (
        {"tasks/own/labels": 4},
        {"fetch_data(own)", "fetch_expert(own)", "training_statistics(fisher/own)", *MERGED, *PREDICTED},
    ),
    "names of labels": ({"tasks/own/label_names": ["a", "b", "c"]}, {"fetch_data(own)", "fetch_expert(own)"}),
    "an expert": ({"tasks/own/expert/path": "models/others"}, {"fetch_expert(own)"}),
    "an expert's training": ({"tasks/made/expert/finetune/epochs": 3}, {"finetune(made)"}),
    # How much
    "rows to train on": ({"limits": {"train": 5}}, {"finetune(made)"}),
    "rows to choose by": ({"limits": {"validation": 5}}, {"finetune(made)", *FEATURES}),
    "rows of the router": ({"limits": {"router": 5}}, FEATURES),
    "rows to answer": ({"limits": {"test": 5}}, PREDICTED),
    "rows of statistics": ({"statistics": {"rows": 5}}, STATISTICS),
    "the length of rows": ({"inference": {"max_length": 5}}, FEATURES | PREDICTED | STATISTICS),
    "the size of batches": ({"inference": {"batch_size": 5}}, FEATURES | PREDICTED),
    "tokens a batch": ({"inference": {"batch_tokens": 512}}, PREDICTED),
    "what models are evaluated in": ({"base/dtype": "bfloat16"}, FEATURES | PREDICTED | {"finetune(made)"}),
}


# What a snapshot of the suite does not say. It says every option, also one that nothing depends on.
NO_OPTIONS = {"nothing", "a default written out", "the title", "shards", "published scores"}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_makes_exactly_these_settings_others(tmp_path: Path, change: str) -> None:
    edits, wanted = CHANGES[change]
    wanted = wanted if change in NO_OPTIONS else wanted | {"snapshot()"}
    before, after = suite_of(tmp_path, SUITE), suite_of(tmp_path, edited(SUITE, edits))
    names = {name for name, _ in planned(after).items() if name.startswith("route(sum/mlp-last-")}
    place = next(iter(names), "")
    assert stale(before, after) == {place if "PLACE" in job else job for job in wanted}


JOINT: dict[str, tuple[dict[str, Any], set[str]]] = {
    "rows of statistics": ({"statistics": {"rows": 5}}, {"joint_statistics(forward)"}),
    "rows that are drawn": ({"methods/entropy/rows": 5}, {"joint_statistics(entropy)", "merge(entropy)"}),
    "the seed": ({"seed": 3}, {"joint_statistics(entropy)", "merge(entropy)"}),
    "an option": ({"methods/forward/alpha": 0.5}, {"joint_statistics(forward)", "merge(forward)"}),
    "a metric": ({"tasks/own/metric": "accuracy_f1"}, set()),
    "the length of rows": (
        {"inference": {"max_length": 5}},
        {"joint_statistics(forward)", "joint_statistics(entropy)"},
    ),
}


@pytest.mark.parametrize("change", JOINT)
def test_a_change_makes_exactly_these_statistics_of_all_experts_others(tmp_path: Path, change: str) -> None:
    methods = {"methods/forward": {"method": "regmean_plusplus"}, "methods/entropy": {"method": "adamerging"}}
    edits, wanted = JOINT[change]
    before = suite_of(tmp_path, edited(SUITE, {**methods, "tasks/own/labels": 2}))
    after = suite_of(tmp_path, edited(SUITE, {**methods, "tasks/own/labels": 2, **edits}))
    found = {job for job in stale(before, after) if job.startswith("joint_statistics") or "merge(" in job}
    assert found - {"merge(drop)"} == wanted


def test_statistics_of_all_experts_depend_on_the_module_of_their_kind_alone(tmp_path: Path) -> None:
    methods = {"methods/forward": {"method": "regmean_plusplus"}, "methods/entropy": {"method": "adamerging"}}
    suite = suite_of(tmp_path, edited(SUITE, methods))
    found = {
        name: [m.rpartition(".")[2] for m in modules.joint_modules(suite, name)] for name in ("forward", "entropy")
    }
    assert found == {
        "forward": ["regmean_plusplus", "forward", "classification"],
        "entropy": ["adamerging", "coefficients", "classification"],
    }


def reversed_keys(content: Any, keep: tuple[str, ...] = ("tasks", "methods")) -> Any:
    """Content with the keys of every mapping reversed, but of those whose order has a meaning."""
    if not isinstance(content, dict):
        return content
    return {
        key: {name: reversed_keys(inner, ()) for name, inner in value.items()}
        if key in keep
        else reversed_keys(value, ())
        for key, value in reversed(content.items())
    }


def test_the_order_of_keys_changes_no_settings(tmp_path: Path) -> None:
    content = edited(SUITE, {"limits": {"train": 3, "router": 4}, "methods/sum/scaling": {"own": 1, "made": 2}})
    assert stale(suite_of(tmp_path, content), suite_of(tmp_path, reversed_keys(content))) == set()


def test_the_order_of_tasks_and_methods_changes_only_what_has_that_order(tmp_path: Path) -> None:
    content = edited(SUITE, {})
    before = suite_of(tmp_path, content)
    content["methods"] = dict(reversed(content["methods"].items()))
    assert stale(before, suite_of(tmp_path, content)) == EVERY | {"snapshot()"}
    content = edited(SUITE, {})
    content["tasks"] = dict(reversed(content["tasks"].items()))
    assert stale(before, suite_of(tmp_path, content)) == MERGED | PREDICTED | TWINS | LIST | {
        ROUTER,
        NEAR,
        "intervals()",
        "snapshot()",
    }


def test_threads_are_a_setting_of_their_stage_alone(tmp_path: Path) -> None:
    suite = suite_of(tmp_path, SUITE)
    for stage in {stage for stage, _ in RULES.values()}:
        changed = {
            rule
            for rule, wildcards in jobs(suite)
            if settings.of_job(suite, rule, wildcards, {stage: 2}) != settings.of_job(suite, rule, wildcards)
        }
        wanted = {
            rule for rule, (own, _) in RULES.items() if own == stage and rule in {rule for rule, _ in jobs(suite)}
        }
        assert changed == (set() if stage == "merge" else wanted), stage


@pytest.mark.parametrize("file", sorted((ROOT / "config" / "suites").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_job_of_a_shipped_suite_has_settings(file: Path) -> None:
    suite = load_suite(file)
    for rule, wildcards in jobs(suite):
        found = settings.of_job(suite, rule, wildcards)
        assert json.loads(json.dumps(found)) == found, f"{rule} {wildcards}: settings are plain data"


def test_what_a_model_is_told_of_the_true_task(tmp_path: Path) -> None:
    routed = {"method": "twin", "shared": "plain", "protocol": "strict", "rank": 2}
    edits = {"methods/plain": {"method": "task_arithmetic", "protocol": "strict"}, "methods/routed": routed}
    suite = suite_of(tmp_path, edited(SUITE, edits))
    told = {model: true_task(suite, model) for model in suite.models}
    assert told == {
        "pretrained": "head",
        "sum": "head+bias",
        "drop": "head+bias",
        "fisher": "head+bias",
        "masks": "head+bias+masks",
        "twin": "head+bias",
        "near": "head+bias",
        "plain": "head",
        "routed": "nothing",
        "expert-made": "head",
        "expert-own": "head",
    }


def test_a_merge_depends_on_the_modules_of_its_method_and_of_the_one_inside(tmp_path: Path) -> None:
    suite = suite_of(tmp_path, SUITE)
    found = {name: [m.rpartition(".")[2] for m in modules.method_modules(suite, name)] for name in suite.methods}
    assert found["sum"] == ["arithmetic"]
    assert found["drop"] == ["pruning", "ties"]


def test_a_linear_sum_of_adapters_is_compressed_from_all_of_them(tmp_path: Path) -> None:
    lora = {"finetune": {"epochs": 1, "learning_rate": 0.1, "lora": {"r": 2}}}
    edits = {"tasks/made/expert": lora, "tasks/own/expert": lora}
    suite = suite_of(tmp_path, edited(SUITE, edits))
    assert linear_coefficients(suite, "sum") == {"made": 0.3, "own": 0.3}
    assert linear_coefficients(suite, "drop") is None
    assert linear_coefficients(suite_of(tmp_path, SUITE), "sum") is None
    found = settings.of_job(suite, "compress", {"shared": "sum", "task": "own"})
    assert found["coefficients"] == {"made": 0.3, "own": 0.3}


def test_a_fetched_router_is_fetched_without_the_order_of_its_tasks(tmp_path: Path) -> None:
    hub = {"repo": "own/router", "tasks": ["own", "made"]}
    suite = suite_of(tmp_path, edited(SUITE, {"router/hub": hub, "seed": 3}))
    fetched = settings.of_job(suite, "fetch_router", {"router": "sum"})
    assert fetched == {"hub": {"repo": "own/router", "revision": "main"}, "threads": 1}
    made = settings.of_job(suite, "route", {"router": "sum"})
    assert made["router"]["hub"]["tasks"] == ["own", "made"]
    assert made["seed"] == 0
