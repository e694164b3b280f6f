"""Sweeps and subsets of tasks in a suite: the entries that they stand for, and the jobs that these need."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.plans import edited, planned, stale, suite_of
from twin_merging.errors import UserError
from twin_merging.plan import inputs, settings
from twin_merging.plan.targets import jobs
from twin_merging.suite.suite import Suite

TASKS = ("one", "two", "three", "four")
SUITE = """
title: Four tasks
base: {path: b}
tasks:
  one: &task {data: {path: d}, labels: 2, metric: accuracy, expert: {path: e}}
  two: *task
  three: {<<: *task, labels: 3}
  four: *task
router: {shared: sum}
methods:
  sum: {method: task_arithmetic, scaling: 0.3}
  twin: {method: twin, rank: 2}
"""
FIRST = {
    "methods/first": {"method": "task_arithmetic", "scaling": 0.3, "sweep": {"tasks": "2..4"}},
    "methods/firsts": {"method": "twin", "shared": "first", "rank": 2, "sweep": {"tasks": ["2..3", 4]}},
}


def suite_with(folder: Path, edits: dict[str, Any], name: str = "mine") -> Suite:
    return suite_of(folder, edited(SUITE, edits), name)


def names(suite: Suite, of: str) -> list[str]:
    return [name for name, entry in suite.methods.items() if entry.swept and entry.swept.of == of]


# -- what a sweep stands for


def test_a_sweep_stands_for_the_entries_of_its_values_in_its_place(tmp_path: Path) -> None:
    swept = suite_with(tmp_path, {"methods/twin": {"method": "twin", "sweep": {"rank": [1, 4]}}})
    by_hand = {f"methods/twin-rank-{rank}": {"method": "twin", "rank": rank} for rank in (1, 4)}
    other = suite_with(tmp_path, {"methods": {"sum": {"method": "task_arithmetic", "scaling": 0.3}}, **by_hand})
    assert list(swept.methods) == ["sum", "twin-rank-1", "twin-rank-4"]
    assert swept.content == other.content
    assert planned(swept) == planned(other)
    assert [entry.swept for entry in other.methods.values()] == [None] * 3
    assert [entry.values for entry in swept.methods.values()] == [{}, {"rank": 1}, {"rank": 4}]


@pytest.mark.parametrize(
    ("entry", "wanted"),
    [
        ({"method": "task_arithmetic", "sweep": {"scaling": [0.1, 1.0, -1, 1e-5]}},
         {"x-scaling-0p1": 0.1, "x-scaling-1": 1.0, "x-scaling-m1": -1, "x-scaling-1em05": 1e-5}),
        ({"method": "twin", "rank": 1, "sweep": {"top_k": [1, None]}}, {"x-top-k-1": 1, "x-top-k-null": None}),
        ({"method": "twin", "rank": 1, "sweep": {"onepass": [False]}}, {"x-onepass-false": False}),
        ({"method": "ties", "density": 0.5, "sweep": {"density": [0.2]}}, {"x-density-0p2": 0.2}),
        ({"method": "twin", "rank": 1, "sweep": {"router.features": ["last", {"layers": [0, 2]}]}},
         {"x-router-features-last": "last", "x-router-features-layers-0-2": {"layers": [0, 2]}}),
    ],
)  # fmt: skip
def test_a_value_is_part_of_a_name(tmp_path: Path, entry: dict[str, Any], wanted: dict[str, Any]) -> None:
    suite = suite_with(tmp_path, {"methods/x": entry})
    (option,) = entry["sweep"]
    assert {name: suite.methods[name].values[option] for name in names(suite, "x")} == wanted


def test_several_options_give_every_combination_and_reach_into_then(tmp_path: Path) -> None:
    entry = {
        "method": "dare",
        "then": {"method": "ties", "density": 0.3},
        "sweep": {"drop_rate": [0.5, 0.9], "then.scaling": [1, 0.7]},
    }
    suite = suite_with(tmp_path, {"methods/x": entry})
    found = {name: suite.methods[name].options for name in names(suite, "x")}
    assert list(found) == [
        f"x-drop-rate-{rate}-then-scaling-{scaling}" for rate in ("0p5", "0p9") for scaling in ("1", "0p7")
    ]
    last = found["x-drop-rate-0p9-then-scaling-0p7"]
    assert (last["drop_rate"], last["then"]["scaling"], last["then"]["density"]) == (0.9, 0.7, 0.3)


def test_tasks_sweep_over_the_first_ones_that_are_not_left_out(tmp_path: Path) -> None:
    entry = {"method": "weight_average", "leave_out": ["two"], "sweep": {"tasks": ["1..2", 3]}}
    suite = suite_with(tmp_path, {"methods/x": entry})
    found = [(suite.methods[name].merged, suite.methods[name].evaluated) for name in names(suite, "x")]
    assert found == [(("one",), ("one", "two")), (("one", "three"), TASKS[:3]), (("one", "three", "four"), TASKS)]
    assert [suite.methods[name].values for name in names(suite, "x")] == [{"tasks": 1}, {"tasks": 2}, {"tasks": 3}]


def test_tasks_and_leave_out_stand_in_the_order_of_the_suite(tmp_path: Path) -> None:
    keys = {"tasks": ["three", "one"], "leave_out": ["two"]}
    suite = suite_with(tmp_path, {"methods/x": {"method": "task_arithmetic", **keys}})
    entry = suite.methods["x"]
    assert (entry.merged, entry.evaluated, entry.left_out) == (("one", "three"), TASKS[:3], ("two",))
    assert suite.content["methods"]["x"]["tasks"] == ["one", "two", "three"]
    assert suite.content["methods"]["x"]["leave_out"] == ["two"]
    assert not {"tasks", "leave_out", "sweep"} & set(suite.content["methods"]["sum"])
    again = suite_with(tmp_path, {"methods/x": suite.content["methods"]["x"]}, "again")
    assert (again.methods["x"].merged, again.methods["x"].evaluated) == (entry.merged, entry.evaluated)


def test_values_of_tasks_that_are_not_merged_are_not_read(tmp_path: Path) -> None:
    entry = {"method": "task_arithmetic", "scaling": dict.fromkeys(TASKS, 0.1), "tasks": ["four", "one"]}
    assert suite_with(tmp_path, {"methods/x": entry}).methods["x"].options["scaling"] == {"four": 0.1, "one": 0.1}


# -- the shared expert


def test_a_point_of_a_sweep_has_the_shared_expert_of_the_same_tasks(tmp_path: Path) -> None:
    suite = suite_with(tmp_path, {**FIRST, "methods/all": {"method": "twin", "shared": "first", "rank": 1}})
    assert {name: suite.shared(name) for name in names(suite, "firsts")} == {
        f"firsts-tasks-{count}": f"first-tasks-{count}" for count in (2, 3, 4)
    }
    assert suite.shared("all") == "first-tasks-4"


def test_what_both_sweep_is_the_same(tmp_path: Path) -> None:
    sweep = {"protocol": ["reference", "strict"], "tasks": [2, 3]}
    edits = {
        "methods/first": {"method": "task_arithmetic", "sweep": sweep},
        "methods/firsts": {"method": "twin", "shared": "first", "rank": 2, "sweep": sweep},
    }
    suite = suite_with(tmp_path, edits)
    assert [suite.shared(name) for name in names(suite, "firsts")] == names(suite, "first")


# -- jobs


def is_of_all(job: str) -> bool:
    """Whether a job is about a suite's scores as a whole, as score() and tabulate() are."""
    return job.endswith("()") and not job.endswith("base()")


def counted(suite: Suite) -> Counter[str]:
    return Counter(rule for rule, _ in jobs(suite))


def test_a_sweep_over_ranks_adds_models_and_predictions_alone(tmp_path: Path) -> None:
    before = suite_with(tmp_path, {})
    after = suite_with(tmp_path, {"methods/ranks": {"method": "twin", "sweep": {"rank": [1, 2, 4, 8]}}}, "after")
    assert counted(after) - counted(before) == {"assemble": 4, "predict": 4}
    assert not counted(before) - counted(after)
    assert {job for job in stale(before, after) if not is_of_all(job)} == {
        *(f"{rule}(ranks-rank-{rank})" for rule in ("assemble", "predict") for rank in (1, 2, 4, 8)),
        *(f"compress(sum/{task})" for task in TASKS),  # at the largest rank
    }


def test_a_sweep_over_the_number_of_tasks_adds_to_each_what_differs_once(tmp_path: Path) -> None:
    before, after = suite_with(tmp_path, {}), suite_with(tmp_path, FIRST, "after")
    added = counted(after) - counted(before)
    points = {"merge": 3, "route_features": 3, "route": 3, "assemble": 3, "predict": 6}
    assert added == {**points, "compress": 2 + 3 + 4}
    found = [repr(job) for job in jobs(after)]
    assert len(found) == len(set(found))
    assert stale(before, after) >= {"merge(first-tasks-2)", "route(first-tasks-2)"}
    assert not {job for job in stale(before, after) if "sum" in job or "(twin)" in job}


def test_jobs_about_some_tasks_have_the_settings_of_a_suite_of_these_alone(tmp_path: Path) -> None:
    own = {
        "methods/sum": {"method": "dare", "drop_rate": 0.5, "then": {"method": "ties"}},
        "methods/fisher": {"method": "fisher"},
        "methods/emr": {"method": "emr"},
    }
    chosen = ["three", "one"]
    some = {f"methods/{name}": {**edited(SUITE, own)["methods"][name], "tasks": chosen}
            for name in ("sum", "fisher", "emr", "twin")}  # fmt: skip
    part = suite_with(tmp_path, {**own, **some})
    content = edited(SUITE, own)
    content["tasks"] = {task: content["tasks"][task] for task in ("one", "three")}
    whole = suite_of(tmp_path, content, "whole")
    told = {job: found for job, found in planned(part).items() if "two" not in job and "four" not in job}
    of_whole = planned(whole)
    assert set(told) == set(of_whole)
    differing = {job for job, found in told.items() if found != of_whole[job] and not is_of_all(job)}
    assert differing == {f"predict({model})" for model in ("pretrained", "expert-one", "expert-three")}
    for method in ("sum", "fisher", "emr"):
        for function in (inputs.task_vectors, inputs.training_statistics, inputs.merged_expert_files):
            paths = (function(suite, {"method": method}) for suite in (part, whole))
            assert next(paths) == [path.replace("whole", "mine") for path in next(paths)]
    assert inputs.test_data(part, {"model": "twin"}) == [
        f"results/mine/data/{t}/test.parquet" for t in ("one", "three")
    ]
    assert len(inputs.test_data(part, {"model": "pretrained"})) == len(TASKS)


def test_left_out_tasks_are_answered_and_neither_merged_nor_routed(tmp_path: Path) -> None:
    key = {"leave_out": ["two"]}
    edits = {"methods/sum": {"method": "task_arithmetic", **key}, "methods/twin": {"method": "twin", "rank": 1, **key}}
    suite = suite_with(tmp_path, edits)
    merged = ["one", "three", "four"]

    def told(rule: str, **wildcards: str) -> dict[str, Any]:
        return settings.of_job(suite, rule, wildcards)

    assert inputs.task_vectors(suite, {"method": "sum"}) == [
        f"results/mine/task_vectors/{task}.safetensors" for task in merged
    ]
    assert list(told("merge", method="sum")["heads"]) == list(TASKS)
    assert told("merge", method="sum")["left_out"] == told("assemble", method="twin")["left_out"] == ["two"]
    assert told("route", router="sum")["tasks"] == told("assemble", method="twin")["tasks"] == merged
    assert sorted(told("route_features", shared="sum", features="last")["tasks"]) == sorted(merged)
    assert list(told("predict", model="twin")["tasks"]) == list(TASKS)
    assert ("compress", {"shared": "sum", "task": "two"}) not in jobs(suite)
    assert told("tabulate")["subsets"] == {name: {"merged": merged, "left_out": ["two"]} for name in ("sum", "twin")}
    assert "evaluated" not in told("score")


# -- what is refused

WRONG: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "no such option": (
        {"methods/twin/sweep": {"ranks": [1]}},
        ("methods.twin.sweep: unknown option of twin to sweep 'ranks' (did you mean 'rank'?)", "router.features, "),
    ),
    "no such option of the inner method": (
        {"methods/x": {"method": "dare", "drop_rate": 0.5, "then": {"method": "ties"}, "sweep": {"then.scale": [1]}}},
        ("methods.x.sweep: unknown option of dare to sweep 'then.scale'", "then.scaling"),
    ),
    "leave_out is not swept": ({"methods/sum/sweep": {"leave_out": [["one"]]}}, ("to sweep 'leave_out'", "allowed: ")),
    "no list": ({"methods/sum/sweep": {"scaling": 0.3}}, ("methods.sum.sweep.scaling: 0.3 is not a list",)),
    "no mapping": ({"methods/sum/sweep": [1]}, ("methods.sum.sweep: [1] is not a mapping",)),
    "no option": ({"methods/sum/sweep": {}}, ("methods.sum.sweep: is empty",)),
    "no value": ({"methods/sum/sweep": {"scaling": []}}, ("methods.sum.sweep.scaling: is empty; give it a value",)),
    "a value twice": (
        {"methods/sum/sweep": {"scaling": [1, 0.5, 1.0]}},
        ("methods.sum.sweep.scaling: 1 and 1 are the same; leave one of them out",),
    ),
    "a value without a name": ({"methods/sum/sweep": {"scaling": ["ü"]}}, ("sweep.scaling: 'ü' gives no name",)),
    "a value that the option does not take": (
        {"methods/twin/sweep": {"rank": [1, "x"]}},
        ("methods.twin-rank-x.rank: 'x' is not a whole number", "(a point of methods.twin.sweep)"),
    ),
    "the name of another entry": (
        {"methods/sum-scaling-1": {"method": "weight_average"}, "methods/sum/sweep": {"scaling": [1]}},
        ("methods.sum-scaling-1: the name is given twice, by methods.sum.sweep and by an entry",),
    ),
    "more tasks than there are": (
        {"methods/sum/sweep": {"tasks": [2, 5]}},
        ("methods.sum.sweep.tasks: 5 must be at least 1 and at most 4",),
    ),
    "no number of tasks": ({"methods/sum/sweep": {"tasks": ["2-4"]}}, ("'2-4' is not a whole number or a range",)),
    "a range that falls": ({"methods/sum/sweep": {"tasks": "4..2"}}, ("'4..2' is no range; write the smaller",)),
    "a range and its number": ({"methods/sum/sweep": {"tasks": ["2..3", 3]}}, ("3 and 3 are the same",)),
    "an unknown task": ({"methods/sum/tasks": ["on"]}, ("methods.sum.tasks: unknown task 'on' (did you mean 'one'?)",)),
    "a task twice": ({"methods/sum/leave_out": ["one", "one"]}, ("methods.sum.leave_out: 'one' stands there twice",)),
    "no task to merge": ({"methods/sum/leave_out": list(TASKS)}, ("methods.sum.leave_out: no task is left to merge",)),
    "no list of tasks": ({"methods/sum/tasks": "one"}, ("methods.sum.tasks: 'one' is not a list",)),
    "an unseen task of masks": (
        {"methods/x": {"method": "emr", "leave_out": ["one"]}},
        ("methods.x.leave_out: 'emr' answers a row by its task's mask",),
    ),
    "a shared expert of other tasks": (
        {"methods/twin/tasks": ["one", "two"]},
        ("methods.twin.shared: 'sum' merges one, two, three, four, this method merges one, two", "sweep of tasks"),
    ),
    "a shared expert that knows the unseen task": (
        {"methods/twin/leave_out": ["two"]},
        ("'sum' merges one, two, three, four, this method merges one, three, four and leaves out two; give both",),
    ),
    "a point that the shared expert's sweep lacks": (
        {**FIRST, "methods/firsts/sweep": {"tasks": [1]}},
        (
            "methods.firsts-tasks-1.shared: 'first' is swept over tasks, and no point of it has the tasks one",
            "add 1 to methods.first.sweep.tasks, or name one of first-tasks-2, first-tasks-3, first-tasks-4",
        ),
    ),
    "a shared expert that is swept over something else": (
        {"methods/sum/sweep": {"scaling": [1, 2]}},
        ("methods.twin.shared: 'sum' is swept over scaling; name one of its points: sum-scaling-1, sum-scaling-2",),
    ),
    "a fetched router of all tasks": (
        {"methods/sum/tasks": ["one", "two"], "methods/twin/tasks": ["one", "two"], "router/hub": {"repo": "a/b"}},
        ("router.hub: the router chooses between one, two, three, four, but methods.twin merges one, two",),
    ),
    "two tasks of three for slerp": (
        {"methods/x": {"method": "slerp", "sweep": {"tasks": [2, 3]}}},
        ("methods.x-tasks-3: ", "(a point of methods.x.sweep)"),
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_sweep_or_subset_stops_with_one_line(tmp_path: Path, case: str) -> None:
    edits, words = WRONG[case]
    with pytest.raises(UserError) as caught:
        suite_with(tmp_path, edits)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'mine.yaml'}: ")
    assert "\n" not in message
    for word in words:
        assert word in message, message
