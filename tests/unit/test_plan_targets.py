"""Targets of a suite, the jobs behind them, and which rule makes which file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.plans import edited, suite_of
from tests.unit.test_plan_settings import SUITE
from twin_merging.jobs import digest
from twin_merging.plan import constraints
from twin_merging.plan.targets import all_of, cards, cost_tables, figures, job_name, jobs, making, page, tables
from twin_merging.plan.warnings import warnings_of
from twin_merging.suite.suite import Suite

ROOT = Path(__file__).parents[2]
ADAPTER = {"finetune": {"epochs": 1, "learning_rate": 0.1, "lora": {"r": 2}}}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return suite_of(tmp_path, SUITE)


def test_targets_are_tables_and_cards(suite: Suite) -> None:
    ends = [".md", ".csv", "-absolute.csv", "-experts.csv", "-router.csv", "-routing.csv", "-unseen.csv"]
    ends += [".tex", "-absolute.tex", "-experts.tex", "-storage.csv"]
    assert tables(suite) == [f"results/tables/mine{end}" for end in ends]
    assert cards(suite) == ["results/mine/models/twin/README.md", "results/mine/models/near/README.md"]
    assert cost_tables(suite) == ["results/tables/mine-cost.md", "results/tables/mine-cost.csv"]
    assert all_of(suite) == [
        "results/tables/mine.csv",
        *cost_tables(suite),
        *cards(suite),
        *figures(suite),
        page(suite),
    ]


def test_every_job_of_the_tables_is_named_once(suite: Suite) -> None:
    found = [f"{rule}({'/'.join(wildcards.values())})" for rule, wildcards in jobs(suite)]
    near = suite.router_name("near")
    assert sorted(found) == sorted(
        [
            "fetch_base()",
            *("generate_data(made)", "finetune(made)", "task_vectors(made)"),
            *("fetch_data(own)", "fetch_expert(own)", "task_vectors(own)"),
            *("training_statistics(fisher/made)", "training_statistics(fisher/own)"),
            *("merge(sum)", "merge(drop)", "merge(fisher)", "merge_masked(masks)"),
            *("compress(sum/made)", "compress(sum/own)"),
            *("route_features(sum/last)", "route(sum)", "assemble(twin)"),
            *("route_features(sum/embedding)", f"route({near})", "assemble(near)"),
            *(f"predict({model})" for model in suite.models),
            *("score()", "intervals()", "snapshot()", "tabulate()", "storage()"),
        ]
    )


def test_a_model_rests_on_the_jobs_between_the_experts_and_itself(suite: Suite, tmp_path: Path) -> None:
    vectors = ["task_vectors/made", "task_vectors/own"]
    assert list(map(job_name, making(suite, "sum"))) == [*vectors, "merge/sum"]
    statistics = ["training_statistics/fisher/made", "training_statistics/fisher/own"]
    assert list(map(job_name, making(suite, "fisher"))) == [*vectors, *statistics, "merge/fisher"]
    joint = suite_of(tmp_path, edited(SUITE, {"methods/fisher": {"method": "adamerging"}}))
    assert list(map(job_name, making(joint, "fisher"))) == [*vectors, "joint_statistics/fisher", "merge/fisher"]
    own = ["compress/sum/made", "compress/sum/own", "route_features/sum/last", "route/sum", "assemble/twin"]
    assert list(map(job_name, making(suite, "twin"))) == [*vectors, "merge/sum", *own]


@pytest.mark.parametrize(
    ("edits", "job"),
    [
        ({"tasks/made/expert": ADAPTER}, ("finetune_adapter", {"task": "made"})),
        ({"tasks/made/expert": {"hub": {"repo": "a/b", "adapter": True}}}, ("fetch_adapter", {"task": "made"})),
        ({"tasks/made/expert": {"hub": {"repo": "a/b"}}}, ("fetch_expert", {"task": "made"})),
        ({"base": {"generate": {}}}, ("generate_base", {})),
        ({"router/hub": {"repo": "a/b"}}, ("fetch_router", {"router": "sum"})),
    ],
    ids=["trained adapter", "fetched adapter", "fetched expert", "generated base", "fetched router"],
)
def test_a_source_says_which_rule_makes_it(tmp_path: Path, edits: dict, job: tuple) -> None:
    assert job not in jobs(suite_of(tmp_path, SUITE))
    assert job in jobs(suite_of(tmp_path, edited(SUITE, edits)))


def suites(folder: Path) -> list[Suite]:
    other = {"base": {"generate": {}}, "tasks/own/expert": ADAPTER, "tasks/own/data": {"path": "d"}}
    return [suite_of(folder, SUITE), suite_of(folder, edited(SUITE, other), "other")]


@pytest.mark.parametrize("made_here", [True, False])
def test_of_two_rules_for_a_base_or_for_data_one_is_meant(tmp_path: Path, made_here: bool) -> None:
    base, data = (where(suites(tmp_path), made_here) for where in (constraints.bases_where, constraints.data_where))
    assert [bool(re.match(base, f"{name}/base/config.json")) for name in ("mine", "other")] == [
        not made_here,
        made_here,
    ]
    assert [bool(re.match(data, f"mine/data/{task}/x")) for task in ("made", "own")] == [made_here, not made_here]


def test_of_two_rules_that_fetch_data_one_writes_in_context_examples(tmp_path: Path) -> None:
    def suite_with(shots: int, name: str) -> Suite:
        data = {"path": "d", "splits": {"shots": "dev"}}
        task = {"data": data, "prompt": {"text": "{q}", "shots": shots}, "metric": "exact_match"}
        content = edited(SUITE, {"family": "decoder", "tasks": {"one": {**task, "expert": {"path": "e"}}}})
        content = {**content, "methods": {"sum": {"method": "task_arithmetic"}}, "router": {"shared": "sum"}}
        return suite_of(tmp_path, content, name)

    found = [suite_with(0, "none"), suite_with(2, "some")]
    assert ("fetch_data", {"task": "one"}) in jobs(found[0])
    assert ("fetch_data_with_shots", {"task": "one"}) in jobs(found[1])
    rules = [constraints.data_where(found, False, shots) for shots in (False, True)]
    assert [[bool(re.match(rule, f"{name}/data/one/x")) for name in ("none", "some")] for rule in rules] == [
        [True, False],
        [False, True],
    ]


def test_of_four_rules_for_an_expert_one_is_meant(tmp_path: Path) -> None:
    where = {
        (made, adapter): constraints.experts_where(suites(tmp_path), made, adapter)
        for made in (True, False)
        for adapter in (True, False)
    }
    for path, wanted in (
        ("mine/experts/made/", (True, False)),
        ("mine/experts/own/", (False, False)),
        ("other/experts/own/", (True, True)),
        ("other/experts/owner/", None),
        ("third/experts/own/", None),
    ):
        assert [kind for kind, rule in where.items() if re.match(rule, path)] == ([wanted] if wanted else []), path


def test_a_rule_for_no_suite_matches_nothing() -> None:
    assert re.match(constraints.suites_where([], "models", lambda suite: suite.static), "mine/models/sum/") is None


@pytest.mark.parametrize(
    ("wildcard", "right", "wrong"),
    [
        ("suite", ["glue", "glue-2"], ["Glue", "glue-router", "glue_2", "-glue", "glue-absolute"]),
        ("router", ["sum", "sum/mlp-last-0a1b2c"], ["sum/", "a/b/c"]),
        ("features", ["last", "embedding", "layer-3", "layers-0-2"], ["layers", "first", "layer-x"]),
    ],
)
def test_wildcards(wildcard: str, right: list[str], wrong: list[str]) -> None:
    pattern = constraints.WILDCARDS[wildcard]
    assert [name for name in [*right, *wrong] if re.fullmatch(pattern, name)] == right


def test_a_source_that_is_tied_to_no_commit_is_warned_of(tmp_path: Path) -> None:
    edits = {"base": {"hub": {"repo": "a/b", "revision": COMMIT}}, "tasks/own/expert": {"hub": {"repo": "a/c"}}}
    assert warnings_of(suite_of(tmp_path, SUITE)) == []
    found = warnings_of(suite_of(tmp_path, edited(SUITE, edits)))
    assert found == [f"{tmp_path}/mine.yaml: not tied to a commit: a/c at main; run: snakemake lock"]
    (tmp_path / "mine.lock.json").write_text('{"sources": {}}')
    assert len(warnings_of(suite_of(tmp_path, edited(SUITE, edits)))) == 1
    (tmp_path / "mine.lock.json").write_text('{"sources": {"base": {"hub": {"repo": "x"}, "files": {}}}}')
    changed = warnings_of(suite_of(tmp_path, edited(SUITE, edits)))[0]
    assert changed.endswith("not as it was locked: base, tasks.own.expert; run: snakemake lock")


@pytest.mark.parametrize("script", sorted((ROOT / "workflow" / "scripts").glob("*.py")), ids=lambda path: path.stem)
def test_no_job_depends_on_the_reading_of_suites(script: Path) -> None:
    """A job gets its settings as plain data, so that what reads suites can change without making results stale."""
    if script.stem == "lock":  # which reads suites, and makes no results
        return
    waiting: list[Path] = [script]
    seen: set[Path] = set()
    while waiting:
        new = set(digest._read(waiting.pop()).imports) - seen
        seen |= new
        waiting += new
    readers = {"plan": {path.name for path in seen}, "suite": {"suite.py", "models.py", "entries.py", "sources.py"}}
    assert not [path for path in seen if path.name in readers.get(path.parent.name, ())]
