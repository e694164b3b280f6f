"""Routers that read the base: one for all methods, whatever their shared experts; and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.plans import planned, stale
from tests.suites import edited, load, refused
from twin_merging.plan import inputs

FEATURES = {"of": "base", "layer": 3, "segments": True, "text": True}
BASE = {"features": FEATURES}
MORE = {
    "methods/twin": {"method": "twin", "fraction": 0.1, "router": BASE},
    "methods/on-strict": {"method": "twin", "shared": "sum-strict", "protocol": "strict", "rank": 2, "router": BASE},
    "methods/on-mean": {"method": "twin", "shared": "mean", "rank": 2, "router": {**BASE, "kind": "mahalanobis"}},
    "methods/own": {"method": "twin", "rank": 2},
}


def test_methods_on_three_shared_experts_have_one_router_of_the_base(tmp_path: Path) -> None:
    suite = load(tmp_path, edited(MORE))
    found = planned(suite)
    name = suite.router_name("twin")
    assert name.startswith("pretrained/mlp-layer-3-segments-text-")
    assert suite.router_name("on-strict") == name
    assert suite.router_name("on-mean").startswith("pretrained/mahalanobis-layer-3-segments-text-")
    assert suite.router_name("own") == "sum"
    assert sorted(job for job in found if job.startswith("route")) == sorted(
        [
            "route_features(pretrained/layer-3-segments-text)",
            "route_features(sum/last)",
            f"route({name})",
            f"route({suite.router_name('on-mean')})",
            "route(sum)",
        ]
    )
    assert inputs.router_features(suite, {"router": name}) == (
        "results/mine/router/pretrained/features/layer-3-segments-text.safetensors"
    )
    read = inputs.read_by_router(suite, {"shared": "pretrained"})
    assert {str(Path(file).parent) for file in read} == {"results/mine/base"}
    assert inputs.base_of_router(suite, {"method": "twin"}) == read
    assert inputs.base_of_router(suite, {"method": "own"}) == []
    assert suite.routed(name) == ["one", "two"]


def test_a_suites_own_router_of_the_base_has_its_folder(tmp_path: Path) -> None:
    edits = {
        **MORE,
        "router": {"shared": "sum", **BASE},
        "methods/of-one": {"method": "weight_average", "tasks": ["one"]},
    }
    edits["methods/twin-of-one"] = {"method": "twin", "rank": 2, "shared": "of-one", "tasks": ["one"]}
    suite = load(tmp_path, edited(edits))
    assert suite.router_name("own") == suite.router_name("twin") == "pretrained"
    assert suite.router_name("twin-of-one").startswith("pretrained/mlp-layer-3-")
    assert suite.routed(suite.router_name("twin-of-one")) == ["one"]
    assert suite.featured("pretrained") == ["one", "two"]


def test_a_change_of_the_shared_expert_makes_no_router_of_the_base_again(tmp_path: Path) -> None:
    before = load(tmp_path, edited(MORE))
    after = load(tmp_path, edited({**MORE, "methods/sum/scaling": 0.5}))
    assert not [job for job in stale(before, after) if job.startswith("route")]
    assert inputs.router_features(after, {"router": after.router_name("twin")}).startswith("results/mine/router/pretr")
    other = load(tmp_path, edited({**MORE, "methods/twin/router": {"features": {**FEATURES, "layer": 2}}}))
    assert "route_features(pretrained/layer-2-segments-text)" in stale(before, other)


@pytest.mark.parametrize(
    ("router", "options", "words"),
    [
        (BASE, {"onepass": True}, ("methods.twin.onepass: the router reads the base", "leave `of: base` out")),
        ({**BASE, "kind": "projection"}, {}, ("methods.twin.router: kind projection needs features", "'of': 'base'")),
        (
            {"features": {"text": True}, "hub": {"repo": "a/b"}},
            {},
            ("methods.twin.router.hub: a fetched router reads hidden states alone; leave text out of features",),
        ),
        ({"features": {"of": "expert"}}, {}, ("methods.twin.router.features.of: unknown value 'expert'",)),
        ({"features": {"segments": 1}}, {}, ("methods.twin.router.features.segments: 1 is not true or false",)),
    ],
)
def test_what_does_not_fit_is_one_sentence(
    router: dict[str, Any], options: dict[str, Any], words: tuple[str, ...], tmp_path: Path
) -> None:
    twin = {"method": "twin", "rank": 2, "router": router, **options}
    refused(tmp_path, edited({"methods/twin": twin}), *words)
