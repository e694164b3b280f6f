"""Ablations, number formats and weights in a suite: entries, jobs, settings, and what is said of wrong ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.plans import planned, stale
from tests.suites import edited, load
from twin_merging.errors import UserError
from twin_merging.plan import inputs, settings
from twin_merging.plan.settings_scores import true_task
from twin_merging.plan.targets import jobs
from twin_merging.suite.suite import Suite

TWIN: dict[str, Any] = {"method": "twin", "rank": 2}


def with_methods(folder: Path, **methods: Any) -> Suite:
    """The suite of the tests with more methods; an underscore in a name is a hyphen."""
    return load(folder, edited({f"methods/{name.replace('_', '-')}": own for name, own in methods.items()}))


def rules(suite: Suite) -> list[str]:
    return [rule for rule, _ in jobs(suite)]


# -- number formats


def test_formats_share_the_exclusive_files_and_the_router(tmp_path: Path) -> None:
    plain = with_methods(tmp_path)
    formats = {store: {"method": "twin", "fraction": 0.1, "store": store} for store in ("bfloat16", "int8", "int4")}
    suite = with_methods(tmp_path, **formats)
    for rule in ("compress", "route", "route_features", "merge"):
        assert rules(suite).count(rule) == rules(plain).count(rule)
    assert rules(suite).count("assemble") == rules(plain).count("assemble") + 3
    making = ("merge", "compress", "route", "assemble", "predict")
    changed = {job for job in stale(plain, suite) if job.startswith(making)}
    assert changed == {f"{rule}({store})" for rule in ("assemble", "predict") for store in formats}


def test_what_stands_at_its_default_is_in_no_jobs_settings(tmp_path: Path) -> None:
    said = with_methods(
        tmp_path, twin={**TWIN, "fraction": 0.5, "store": "float32", "weights": "router"} | {"rank": None}
    )
    unsaid = with_methods(tmp_path, twin={"method": "twin", "fraction": 0.5})
    assert planned(said) == planned(unsaid)
    assert not {"store", "weights"} & said.methods["twin"].options.keys()


# -- weights that no router gives


@pytest.mark.parametrize("weights", ["uniform", "oracle"])
def test_without_a_router_none_is_made(weights: str, tmp_path: Path) -> None:
    content = edited({"methods/twin": {**TWIN, "weights": weights}})
    suite = load(tmp_path, content)
    assert not {"route", "route_features"} & set(rules(suite))
    assert suite.dynamic == ["twin"]
    assert suite.with_router == []
    assert inputs.router_of(suite, {"method": "twin"}) == []
    assert inputs.own_router_metrics(suite, {"method": "twin"}) == []
    assert inputs.router_metrics(suite, {}) == inputs.routed_predictions(suite, {}) == []
    found = settings.of_job(suite, "assemble", {"method": "twin"})
    assert found["router"] == {"kind": weights, "features": "last"}
    assert found["head"] == "oracle"
    assert settings.of_job(suite, "tabulate", {})["dynamic"] == []


def test_the_router_is_no_setting_where_there_is_none(tmp_path: Path) -> None:
    uniform = {**TWIN, "weights": "uniform"}
    before = load(tmp_path, edited({"methods/twin": uniform}))
    after = load(tmp_path, edited({"methods/twin": uniform, "router/epochs": 3}))
    assert stale(before, after) == {"snapshot()"}  # which holds the suite in full


def test_a_model_that_is_told_its_weights_says_so(tmp_path: Path) -> None:
    suite = with_methods(
        tmp_path,
        oracle={**TWIN, "weights": "oracle"},
        uniform={**TWIN, "weights": "uniform"},
        strict={**TWIN, "weights": "oracle", "protocol": "strict", "shared": "sum-strict"},
    )
    found = {name: true_task(suite, name) for name in suite.dynamic}
    assert found == {
        "twin": "head+bias",
        "oracle": "head+bias+weights",
        "uniform": "head+bias",
        "strict": "head+weights",
    }


# -- ablations


def test_each_ablation_is_an_entry_that_lacks_one_part(tmp_path: Path) -> None:
    suite = with_methods(tmp_path, all={**TWIN, "top_k": 1, "router": {"kind": "mahalanobis"}, "ablations": True})
    whole = suite.methods["all"].options
    assert list(suite.methods)[-6:] == [
        "all", "pretrained-reference", "all-exclusive-only", "all-full-rank", "all-uniform", "all-oracle"
    ]  # fmt: skip
    pretrained = suite.methods["pretrained-reference"]
    assert (pretrained.method.name, pretrained.options["scaling"]) == ("task_arithmetic", 0.0)
    assert suite.methods["all-exclusive-only"].options == {**whole, "shared": "pretrained-reference"}
    rankless = {key: value for key, value in whole.items() if key != "rank"}
    assert suite.methods["all-full-rank"].options == {**rankless, "fraction": 1.0}
    for weights in ("uniform", "oracle"):
        own = suite.methods[f"all-{weights}"].options
        assert own == {**whole, "router": None, "top_k": None, "weights": weights}


def test_ablations_share_what_they_can(tmp_path: Path) -> None:
    plain = with_methods(tmp_path, other={**TWIN, "rank": 3})
    suite = with_methods(tmp_path, twin={**TWIN, "ablations": True}, other={**TWIN, "rank": 3, "ablations": True})
    tasks = len(suite.tasks)
    assert rules(suite).count("merge") == rules(plain).count("merge") + 1
    assert rules(suite).count("compress") == rules(plain).count("compress") + tasks
    assert rules(suite).count("route") == rules(plain).count("route") + 1
    assert rules(suite).count("assemble") == rules(plain).count("assemble") + 8


def test_ablations_of_one_pass_keep_the_layer_that_is_read(tmp_path: Path) -> None:
    early = {**TWIN, "onepass": True, "router": {"features": {"layer": 1}}, "ablations": ["uniform"]}
    suite = with_methods(tmp_path, early=early)
    found = settings.of_job(suite, "assemble", {"method": "early-uniform"})
    assert found["router"] == {"kind": "uniform", "features": {"layer": 1}}
    assert found["entry"]["router"] is None


def test_ablations_follow_sweeps_and_subsets(tmp_path: Path) -> None:
    file = edited({"methods/twin": {"method": "twin", "sweep": {"rank": [1, 2], "top_k": [1]}, "ablations": True}})
    suite = load(tmp_path, file)
    assert [name for name in suite.methods if name.startswith("twin-")] == [
        "twin-rank-1-top-k-1", "twin-rank-2-top-k-1", "twin-exclusive-only-rank-1-top-k-1",
        "twin-exclusive-only-rank-2-top-k-1", "twin-full-rank-top-k-1", "twin-uniform-rank-1", "twin-uniform-rank-2",
        "twin-oracle-rank-1", "twin-oracle-rank-2",
    ]  # fmt: skip
    first = next(iter(suite.tasks))
    one = {"tasks": [first]}
    suite = with_methods(
        tmp_path, mean={"method": "weight_average", **one}, twin={**TWIN, "shared": "mean", **one, "ablations": True}
    )
    assert suite.methods["twin-exclusive-only"].options["shared"] == "twin-pretrained"
    assert suite.merged("twin-pretrained") == [first]
    content = edited({
        "methods/sum/sweep": {"tasks": [1, 2]},
        "methods/twin": {"method": "twin", "rank": 2, "sweep": {"tasks": [1, 2]}, "ablations": ["exclusive-only"]},
    })  # fmt: skip
    suite = load(tmp_path, content)
    assert suite.shared("twin-exclusive-only-tasks-1") == "twin-pretrained-tasks-1"


# -- what is wrong


@pytest.mark.parametrize(
    ("methods", "words"),
    [
        ({"x": {**TWIN, "store": "int2"}}, ["methods.x.store: unknown value 'int2'", "bfloat16, float32, int4, int8"]),
        ({"x": {**TWIN, "weights": "mean"}}, ["methods.x.weights: unknown value 'mean'"]),
        ({"x": {**TWIN, "weights": "oracle", "top_k": 1}}, ["methods.x: top_k is of a router", "weights: oracle"]),
        ({"x": {**TWIN, "weights": "uniform", "temperature": 2.0}}, ["methods.x: temperature is of a router"]),
        ({"x": {**TWIN, "weights": "uniform", "router": {"epochs": 3}}}, ["methods.x: router is of a router"]),
        ({"x": {**TWIN, "weights": "uniform", "head": "routed"}}, ["methods.x: head: routed needs a router"]),
        (
            {"x": {**TWIN, "ablations": ["shared-only"]}},
            ["methods.x.ablations: unknown ablation 'shared-only'", "oracle"],
        ),
        ({"x": {**TWIN, "ablations": 3}}, ["methods.x.ablations: 3 is not true or false or a list"]),
        ({"x": {"method": "ties", "ablations": True}}, ["methods.x.ablations: 'ties' has no exclusive vectors"]),
        ({"x": {**TWIN, "ablations": True}, "x_oracle": TWIN}, ["methods.x-oracle: the name is given twice"]),
        (
            {"x": {**TWIN, "ablations": True}, "pretrained_reference": {"method": "ties"}},
            ["methods.pretrained-reference"],
        ),
    ],
)
def test_wrong_entries_are_one_sentence(methods: dict[str, Any], words: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        with_methods(tmp_path, **methods)
    for word in words:
        assert word in str(caught.value)


def test_an_unseen_task_has_no_exclusive_vector_to_weigh(tmp_path: Path) -> None:
    last = list(with_methods(tmp_path).tasks)[-1:]
    mean = {"method": "weight_average", "leave_out": last}
    with pytest.raises(UserError, match=r"methods\.x\.leave_out: with weights: oracle"):
        with_methods(tmp_path, rest=mean, x={**TWIN, "shared": "rest", "leave_out": last, "weights": "oracle"})
