"""Suites: what a method's protocol, size and router options come to."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest

from tests.suites import edited, load
from twin_merging.errors import UserError
from twin_merging.plan.settings_scores import true_task
from twin_merging.routing.options import OPTIONS, RouterOptions, layer_that_reads

# -- what a workflow asks of a suite


def test_a_suite_of_its_own_protocol(tmp_path: Path) -> None:
    edits = {"protocols": {"mine": {"norm": "base", "bias": "expert"}}, "methods/mean/protocol": "mine"}
    suite = load(tmp_path, edited(edits))
    assert suite.protocol("mean").groups == {
        "head": "expert",
        "bias": "expert",
        "norm": "base",
        "embedding": "merge",
        "matrix": "merge",
    }
    assert suite.private_groups("mean") == ["head", "bias"]


def test_under_linear_the_true_tasks_head_answers_unless_the_routed_one_is_named(tmp_path: Path) -> None:
    static = {"method": "task_arithmetic", "protocol": "linear"}
    dynamic = {"method": "twin", "shared": "even", "protocol": "linear", "rank": 2}
    suite = load(tmp_path, edited({"methods/even": static, "methods/told": dynamic,
                                   "methods/untold": {**dynamic, "head": "routed"}}))  # fmt: skip
    assert suite.private_groups("even") == ["head"]
    assert [suite.head(name) for name in ("even", "told", "untold")] == ["oracle", "oracle", "routed"]
    assert [true_task(suite, name) for name in ("even", "told", "untold")] == ["head", "head", "nothing"]


def test_the_head_of_a_dynamic_method_follows_its_protocol_unless_it_is_named(tmp_path: Path) -> None:
    strict = {"method": "twin", "shared": "sum-strict", "protocol": "strict", "rank": 2}
    suite = load(
        tmp_path, edited({"methods/strict": strict, "methods/told": {**strict, "head": "oracle"}, "methods/z": strict})
    )
    heads = {name: suite.head(name) for name in suite.methods}
    assert heads == {
        "sum": "oracle",
        "sum-strict": "oracle",
        "mean": "oracle",
        "twin": "oracle",
        "strict": "routed",
        "told": "oracle",
        "z": "routed",
    }


def test_the_largest_size_that_is_asked_of_a_shared_expert_is_decomposed(tmp_path: Path) -> None:
    more = {"methods/a": {"method": "twin", "rank": 3}, "methods/b": {"method": "twin", "fraction": 0.5}}
    suite = load(tmp_path, edited(more))
    assert suite.compression("sum") == {"rank": 3, "fraction": 0.5}
    assert suite.compression("mean") == {}


def test_a_router_is_shared_by_all_methods_that_name_no_options_of_their_own(tmp_path: Path) -> None:
    own = {"method": "twin", "rank": 3, "router": {"epochs": 7}}
    suite = load(tmp_path, edited({"methods/own": own, "router/dropout": 0.2}))
    name = suite.router_name("own")
    assert suite.router_name("twin") == "sum"
    assert re.fullmatch("sum/mlp-last-[0-9a-f]{6}", name)
    assert suite.router_settings("sum")["epochs"] == 50
    assert suite.router_settings(name) == {**suite.router_settings("sum"), "epochs": 7}
    assert suite.router_settings(name)["dropout"] == 0.2
    with pytest.raises(KeyError):
        suite.router_settings("sum/other")


def test_methods_with_equal_router_options_have_one_router(tmp_path: Path) -> None:
    own = {"method": "twin", "rank": 3, "router": {"features": {"layer": 2}}}
    same = {"method": "twin", "rank": 5, "head": "routed", "router": {"features": {"layers": [2]}, "epochs": 50}}
    other = {**own, "router": {"features": {"layer": 2}, "epochs": 51}}
    plain = {**own, "router": {"features": "last"}}
    edits = {"methods/own": own, "methods/same": same, "methods/other": other, "methods/plain": plain}
    suite = load(tmp_path, edited(edits))
    names = {name: suite.router_name(name) for name in edits for name in [name.removeprefix("methods/")]}
    assert names["own"] == names["same"] != names["other"]
    assert names["own"].startswith("sum/mlp-layer-2-")
    assert names["plain"] == "sum"


def test_a_router_depends_on_the_options_of_its_own_kind_alone(tmp_path: Path) -> None:
    near = {"method": "twin", "rank": 3, "router": {"kind": "neighbours", "neighbours": 3}}
    edits = {"methods/near": near, "methods/far": {**near, "router": {"kind": "mahalanobis"}}, "router/stored": 50}
    suite = load(tmp_path, edited(edits))
    mlp = ["kind", "features", "hidden_size", "epochs", "batch_size", "learning_rate", "weight_decay", "dropout"]
    assert list(suite.router_settings("sum")) == mlp
    assert suite.router_settings(suite.router_name("near")) == {
        "kind": "neighbours",
        "features": "last",
        "neighbours": 3,
        "stored": 50,
    }
    assert suite.router_settings(suite.router_name("far")) == {"kind": "mahalanobis", "features": "last"}


def test_every_option_belongs_to_a_kind_of_router() -> None:
    assert OPTIONS.keys() == set(get_args(RouterOptions.model_fields["kind"].annotation))
    # `unknown` is an option of routers of every kind.
    options = {"kind", "features", "hub", "unknown", *(key for keys in OPTIONS.values() for key in keys)}
    assert options == set(RouterOptions.model_fields)


def test_a_fetched_router_depends_on_its_source_and_on_no_option_of_training(tmp_path: Path) -> None:
    hub = {"repo": "own/router", "revision": "main"}
    own = {"method": "twin", "rank": 3, "router": {"hub": None}}
    other = {"method": "twin", "rank": 3, "router": {"kind": "mahalanobis"}}
    edits = {"router/hub": {"repo": "own/router"}, "router/epochs": 3, "methods/own": own, "methods/other": other}
    suite = load(tmp_path, edited(edits))
    assert suite.router_settings("sum") == {"kind": "mlp", "features": "last", "hub": hub}
    assert suite.router_settings(suite.router_name("own"))["epochs"] == 3
    assert suite.router_settings(suite.router_name("other")) == {"kind": "mahalanobis", "features": "last"}


@pytest.mark.parametrize(
    ("router", "message"),
    [
        ({"kind": "mahalanobis", "hub": {"repo": "own/router"}}, "a fetched router is of kind mlp, not mahalanobis"),
        ({"hub": {"repo": "own/router", "tasks": ["one", "three"]}}, "hub.tasks: one, three are not the suite's"),
        ({"hub": {"repo": "own/router", "name": "x"}}, "unknown key 'name'"),
    ],
)
def test_a_fetched_router_that_cannot_be_used_is_refused(tmp_path: Path, router: Any, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        load(tmp_path, edited({"router": {"shared": "sum", **router}}))


@pytest.mark.parametrize(("features", "layer"), [("embedding", 0), ({"layer": 0}, 0), ({"layer": 7}, 7)])
def test_a_projection_reads_the_matrices_of_the_layer_that_the_features_enter(features: Any, layer: int) -> None:
    options = RouterOptions.model_validate({"kind": "projection", "features": features, "rank": 4, "dropout": 0.5})
    normal = "embedding" if layer == 0 else features
    mass = {"threshold": 0.2, "at_most": 3}
    assert options.settings() == {"kind": "projection", "features": normal, "rank": 4, **mass, "layer": layer}


@pytest.mark.parametrize("features", ["last", {"layers": [1, 2]}])
def test_features_of_the_last_or_of_several_layers_enter_no_one_layer(features: Any) -> None:
    with pytest.raises(ValueError, match="kind projection needs features: embedding or"):
        layer_that_reads(features)
