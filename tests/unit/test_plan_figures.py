"""Which figures a suite can have, what each reads, and what makes each of them stale."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.plans import REMOVED, edited, suite_of
from tests.suites import refused
from tests.unit.test_plan_settings import SUITE
from twin_merging.plan import constraints, figures, inputs, modules, settings
from twin_merging.plan.targets import all_of, jobs, tables
from twin_merging.plan.targets import figures as targets
from twin_merging.suite.suite import Suite

PLANE = {"plane": {"method": "twin", "tasks": ["own", "made"]}}
SWEPT = {
    "methods/swept": {"method": "twin", "sweep": {"rank": [1, 2], "temperature": [1.0, 2.0]}},
    "methods/dropped": {"method": "dare", "drop_rate": 0.5, "then": {"method": "ties"},
                        "sweep": {"then.density": [0.1, 0.2]}},
}  # fmt: skip
KINDS = ("intervals", "storage", "experts", "routing", "predictions", "exclusives", "plane")


def made(folder: Path, **edits: Any) -> Suite:
    return suite_of(folder, edited(SUITE, {key.replace("__", "/"): value for key, value in edits.items()}))


def read(suite: Suite, figure: str) -> dict[str, list[str]]:
    """What a figure reads, without the folders."""
    found = {what: figures.read(suite, {"figure": figure}, what) for what in KINDS}
    return {what: [Path(path).name for path in paths] for what, paths in found.items() if paths}


def test_figures_are_those_that_there_is_something_for(tmp_path: Path) -> None:
    suite = made(tmp_path)
    assert figures.names(suite) == ["averages", "methods", "storage", "experts", "routing", "weights", "spectrum"]
    static = made(tmp_path, methods__twin=REMOVED, methods__near=REMOVED)
    assert figures.names(static) == ["averages", "methods", "storage", "experts"]
    third = {"data": {"path": "d"}, "labels": 2, "metric": "accuracy", "expert": {"path": "e"}}
    more = suite_of(tmp_path, edited(SUITE, {**SWEPT, "tasks/third": third, "figures": PLANE}))
    wanted = ["averages", "methods", "radar", "storage", "experts", "routing", "weights", "spectrum",
              "by_rank", "by_temperature", "by_then_density", "plane"]  # fmt: skip
    assert figures.names(more) == wanted
    assert targets(more) == [f"results/figures/mine-{name}.svg" for name in wanted]
    assert not any("-" in name for name in wanted)


def test_tables_need_no_figure_and_all_that_is_made_has_them(tmp_path: Path) -> None:
    suite = made(tmp_path, figures=PLANE)
    assert set(targets(suite)) <= set(all_of(suite))
    assert not set(targets(suite)) & set(tables(suite))
    assert not {"figure", "plane"} & {rule for rule, _ in jobs(suite)}


def test_a_figure_reads_what_it_shows(tmp_path: Path) -> None:
    suite = made(tmp_path, figures=PLANE, **{key.replace("/", "__"): value for key, value in SWEPT.items()})
    for name in ("averages", "methods", "by_rank"):
        assert read(suite, name) == {"intervals": ["intervals.csv"]}
    assert read(suite, "storage") == {"intervals": ["intervals.csv"], "storage": ["mine-storage.csv"]}
    assert read(suite, "experts") == {"experts": ["mine-experts.csv"]}
    assert read(suite, "routing") == {"routing": ["mine-routing.csv"]}
    # One of the methods that mix alike: two temperatures with the suite's router, and a router of its own.
    first = ["twin.parquet", "near.parquet", "swept-rank-1-temperature-2.parquet"]
    assert read(suite, "weights") == {"predictions": first}
    assert read(suite, "spectrum") == {"exclusives": ["made.safetensors", "own.safetensors"]}
    assert read(suite, "plane") == {"plane": ["twin.csv"]}
    assert inputs.plane_data(suite, {}) == [f"results/mine/data/{task}/validation.parquet" for task in ("own", "made")]


def test_methods_that_share_a_router_are_shown_once(tmp_path: Path) -> None:
    suite = made(tmp_path, **{"methods__swept": SWEPT["methods/swept"]})
    shown = [router["models"] for router in settings.of_job(suite, "figure", {"figure": "routing"})["routers"]]
    assert [models[0] for models in shown] == ["twin", "near"]
    assert sum(map(len, shown)) == len(suite.dynamic)


def test_a_sweep_is_lines_of_points(tmp_path: Path) -> None:
    suite = made(tmp_path, **{"methods__swept": SWEPT["methods/swept"]})
    points = settings.of_job(suite, "figure", {"figure": "by_rank"})["points"]
    assert [(point["model"], point["line"], point["value"]) for point in points] == [
        ("swept-rank-1-temperature-1", "swept, temperature 1.0", 1),
        ("swept-rank-1-temperature-2", "swept, temperature 2.0", 1),
        ("swept-rank-2-temperature-1", "swept, temperature 1.0", 2),
        ("swept-rank-2-temperature-2", "swept, temperature 2.0", 2),
    ]


@pytest.mark.parametrize(
    ("edits", "stale"),
    [
        ({"title": "Others"}, {"averages", "methods", "storage", "experts", "routing", "weights", "spectrum", "plane"}),
        ({"methods/drop/drop_rate": 0.6}, set()),
        ({"methods/more": {"method": "ties"}}, {"averages", "methods", "storage"}),
        ({"methods/more": {"method": "twin", "rank": 2}}, {"averages", "methods", "storage", "routing", "weights"}),
        ({"figures": {"plane": {"method": "twin", "tasks": ["made", "own"]}}}, {"plane"}),
    ],
    ids=["title", "option", "static method", "dynamic method", "plane"],
)
def test_a_change_of_a_suite_draws_what_shows_it(tmp_path: Path, edits: dict[str, Any], stale: set[str]) -> None:
    before, after = made(tmp_path, figures=PLANE), suite_of(tmp_path, edited(SUITE, {"figures": PLANE, **edits}))
    found = {
        name
        for name in figures.names(after)
        if settings.of_job(before, "figure", {"figure": name}) != settings.of_job(after, "figure", {"figure": name})
    }
    assert found == stale


def test_what_makes_a_plane_stale(tmp_path: Path) -> None:
    def of(**edits: Any) -> Any:
        return settings.of_job(made(tmp_path, figures=PLANE, **edits), "plane", {"method": "twin"})

    assert of() == of(title="Others", limits={"test": 5}, methods__twin__temperature=2.0)
    assert of() != of(tasks__made__metric="accuracy_f1")
    assert of() != of(inference={"max_length": 5})


def test_a_figure_depends_on_the_module_that_draws_it() -> None:
    assert modules.figure_module("by_then_density") == "twin_merging.reporting.figures.sweeps"
    assert modules.figure_module("radar") == "twin_merging.reporting.figures.radar"


def test_files_of_figures_tell_suites_apart(tmp_path: Path) -> None:
    suites = [suite_of(tmp_path, SUITE, name) for name in ("one", "one-methods", "one.methods")]
    pattern = rf"(?P<suite>{constraints.figures_where(suites)})-(?P<figure>{constraints.WILDCARDS['figure']})\.svg"
    for name in ("one-averages", "one-methods-averages", "one.methods-averages", "one-methods-methods", "one-methods"):
        found = re.fullmatch(pattern, f"{name}.svg")
        assert found is not None, name
        assert f"{found['suite']}-{found['figure']}" == name
    assert re.fullmatch(pattern, "one-methods.svg")["suite"] == "one"  # type: ignore[index]
    assert re.fullmatch(pattern, "one-plane.svg") is None
    assert re.fullmatch(pattern, "two-averages.svg") is None


@pytest.mark.parametrize(
    ("plane", "words"),
    [
        ({"method": "sum", "tasks": ["own", "made"]}, ("figures.plane.method", "'sum'", "allowed: near, twin")),
        ({"method": "twin", "tasks": ["own", "mode"]}, ("figures.plane.tasks", "'mode'", "allowed: made, own")),
        ({"method": "twin", "tasks": ["own", "own"]}, ("figures.plane.tasks", "'own' stands twice; name two tasks")),
        ({"method": "twin", "tasks": ["own"]}, ("figures.plane.tasks",)),
        ({"method": "twin", "tasks": ["own", "made"], "grid": [0, 1, 1]}, ("figures.plane.grid", "rising order")),
        ({"method": "twin", "tasks": ["own", "made"], "rows": 0}, ("figures.plane.rows",)),
        ({"method": "once", "tasks": ["own", "made"]}, ("figures.plane.method", "name one without onepass")),
    ],
    ids=["no router", "unknown task", "one task twice", "one task", "grid", "rows", "onepass"],
)
def test_a_plane_that_cannot_be_drawn_is_refused(tmp_path: Path, plane: dict[str, Any], words: tuple[str, ...]) -> None:
    once = {"method": "twin", "rank": 2, "onepass": True, "router": {"features": "embedding"}}
    methods = {"methods/once": once} if plane["method"] == "once" else {}
    refused(tmp_path, edited(SUITE, {**methods, "figures": {"plane": plane}}), *words)


def test_averages_are_compared_between_models_of_all_tasks(tmp_path: Path) -> None:
    few = {"method": "task_arithmetic", "tasks": ["made"]}
    even = {"method": "twin", "shared": "sum", "rank": 1, "weights": "uniform"}
    suite = suite_of(tmp_path, edited(SUITE, {"methods/few": few, "methods/even": even}))
    for figure in ("averages", "methods", "storage"):
        shown = settings.of_job(suite, "figure", {"figure": figure})["kinds"]
        assert "few" not in shown
        assert shown["even"] == "weighed"
        assert shown["twin"] == "dynamic"
