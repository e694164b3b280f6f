"""`{choose: [values]}` in a suite: its normal form, what is planned for it, and what is said of a wrong one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.plans import edited, planned, stale
from tests.suites import SUITE, load, refused
from tests.suites import edited as in_suite
from twin_merging import UserError, merge
from twin_merging.merging.choices import candidates_of, choices_in, described
from twin_merging.merging.chosen import resolve
from twin_merging.merging.registry import merging_methods
from twin_merging.merging.scales import merges_for, scale_of
from twin_merging.plan import inputs, modules, settings
from twin_merging.plan.figures import mixtures
from twin_merging.plan.targets import jobs
from twin_merging.reporting.choices import choices_section, chosen_line
from twin_merging.suite.schemas import schemas

CHOSEN: dict[str, Any] = {
    "methods/sum": {"method": "task_arithmetic", "scaling": {"choose": [0.1, 0.3, 1]}},
    "methods/drop": {
        "method": "dare",
        "drop_rate": {"choose": [0.5, 0.9]},
        "then": {"method": "ties", "density": 0.3, "scaling": {"choose": [1, 2]}},
    },
    "methods/twin": {"method": "twin", "rank": {"choose": [2, 8.0, 4]}, "temperature": {"choose": [0.5, 1]}},
}
CHOICE = {"choose(drop)", "choose(sum)", "choose(twin)"}


def test_the_normal_form_has_the_choices_in_the_places_of_numbers(tmp_path: Path) -> None:
    suite = load(tmp_path, in_suite(CHOSEN))
    content = suite.content["methods"]
    assert content["sum"]["scaling"] == {"choose": [0.1, 0.3, 1.0]}
    assert content["drop"]["then"]["scaling"] == {"choose": [1.0, 2.0]}
    assert (content["drop"]["then"]["density"], content["drop"]["seed"]) == (0.3, 0)
    assert list(content["twin"])[2:4] == ["shared", "rank"]
    assert [type(rank) for rank in content["twin"]["rank"]["choose"]] == [int, int, int]
    assert suite.choosing == ["sum", "twin", "drop"]
    assert suite.methods["drop"].choices == {"drop_rate": [0.5, 0.9], "then.scaling": [1.0, 2.0]}
    assert suite.compression("sum") == {"rank": 8}
    plain = load(tmp_path, SUITE)
    assert plain.choosing == []
    assert content["mean"] == plain.content["methods"]["mean"]


def test_what_is_planned(tmp_path: Path) -> None:
    before = load(tmp_path, SUITE)
    suite = load(tmp_path, in_suite(CHOSEN))
    plan = planned(suite)
    assert CHOICE | {"answer_validation(one)", "answer_validation(two)"} <= set(plan)
    assert not any("validation" in job or "choose" in job for job in planned(before))
    for rule, wildcards in jobs(suite):
        if rule in ("choose", "answer_validation"):
            functions = [inputs.validation_data, *([inputs.validation_scores] if rule == "choose" else [])]
            read = [file for function in functions for file in function(suite, wildcards)]
            assert read
            assert not any("test.parquet" in file for file in read)
    for method, kind, found in (
        (
            "sum",
            "task_vectors",
            ["results/mine/task_vectors/one.safetensors", "results/mine/task_vectors/two.safetensors"],
        ),
        ("sum", "shared", []),
        ("twin", "router", ["results/mine/router/sum/router.safetensors"]),
        ("twin", "experts", []),
    ):
        assert inputs.tried_from(suite, {"method": method}, kind) == found
    assert inputs.own_choice(suite, {"method": "sum"}) == ["results/mine/choices/sum.json"]
    assert inputs.own_choice(suite, {"method": "mean"}) == inputs.shared_choice(suite, {"shared": "mean"}) == []
    assert len(inputs.choices(suite, {})) == 3
    assert modules.choice_modules(suite, "drop")[:2] == [
        "twin_merging.merging.methods.pruning", "twin_merging.merging.methods.ties"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("edits", "jobs"),
    [
        ({}, set()),
        ({"limits": {"test": 3}}, {f"predict({model})" for model in (
            "pretrained", "sum", "sum-strict", "mean", "drop", "twin", "expert-one", "expert-two")}),
        ({"limits": {"validation": 3}}, {*CHOICE, "answer_validation(one)", "answer_validation(two)",
                                         "finetune(two)", "route_features(sum/last)"}),
        ({"methods/sum/scaling/choose": [0.1, 0.2]}, {"choose(sum)", "merge(sum)"}),
        ({"methods/twin/rank/choose": [2, 8, 5]}, {"choose(twin)", "assemble(twin)"}),
        ({"methods/twin/temperature/choose": [3, 4]}, {"choose(twin)", "assemble(twin)"}),
        ({"methods/twin/rank/choose": [2, 9]}, {"choose(twin)", "assemble(twin)", "compress(sum/one)",
                                                "compress(sum/two)"}),
    ],
)  # fmt: skip
def test_a_change_is_stale_where_it_matters(tmp_path: Path, edits: dict[str, Any], jobs: set[str]) -> None:
    import yaml

    text = yaml.safe_dump(in_suite(CHOSEN), sort_keys=False)
    found = stale(load(tmp_path, text), load(tmp_path, edited(text, edits)))
    assert found - {"snapshot()"} == jobs  # which says every option


def test_coefficients_of_adapters_come_from_the_choice(tmp_path: Path) -> None:
    adapter = {"hub": {"repo": "a/b", "adapter": True}}
    experts = {"tasks/one/expert": adapter, "tasks/two/expert": adapter}
    numbers = load(tmp_path, in_suite(experts))
    chosen = load(tmp_path, in_suite({**CHOSEN, **experts}))
    of = {"shared": "sum", "task": "one"}
    assert inputs.chosen_coefficients(numbers, of) == []
    assert inputs.chosen_coefficients(chosen, of) == ["results/mine/choices/sum.json"]
    assert inputs.compressed_from(chosen, of) == inputs.compressed_from(numbers, of)
    assert "'coefficients': {'one': 0.3, 'two': 0.3}" in planned(numbers)["compress(sum/one)"]
    assert "'coefficients': None" in planned(chosen)["compress(sum/one)"]
    whole = load(tmp_path, in_suite(CHOSEN))
    assert inputs.chosen_coefficients(whole, of) == []


WRONG: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "an empty list": ({"methods/sum/scaling": {"choose": []}}, ("methods.sum.scaling.choose: is empty", "two or more")),
    "one value": (
        {"methods/sum/scaling": {"choose": [0.3]}},
        ("methods.sum.scaling.choose: [0.3] has one value alone", "a number in the place of the choice"),
    ),
    "no list": ({"methods/sum/scaling": {"choose": "all"}}, ("methods.sum.scaling.choose: 'all' is not a list",)),
    "no number": (
        {"methods/sum/scaling": {"choose": [0.3, "0.4"]}},
        ("methods.sum.scaling.choose: '0.4' is not a number; write a number without quotes",),
    ),
    "true": ({"methods/sum/scaling": {"choose": [0.3, True]}}, ("methods.sum.scaling.choose: true is not a number",)),
    "a value twice": (
        {"methods/sum/scaling": {"choose": [1, 2, 1.0]}},
        ("methods.sum.scaling.choose: [1, 2, 1.0] has a value twice; leave one out",),
    ),
    "out of limits": (
        {"methods/sum": {"method": "ties", "density": {"choose": [0.1, 0]}}},
        ("methods.sum.density: 0 must be more than 0",),
    ),
    "out of limits in then": (
        {"methods/sum": {"method": "dare", "drop_rate": 0.1,
                         "then": {"method": "ties", "density": {"choose": [2, 1]}}}},
        ("methods.sum.then.density: 2 must be at most 1",),
    ),
    "two that do not go together": (
        {"methods/sum": {"method": "della", "density": {"choose": [0.3, 0.05]}}},
        ("methods.sum: density 0.05 and epsilon 0.1", "make epsilon smaller"),
    ),
    "a whole number": (
        {"methods/twin": {"method": "twin", "rank": {"choose": [2, 2.5]}}},
        ("methods.twin.rank: 2.5 is not a whole number",),
    ),
    "two sizes": (
        {"methods/twin/rank": {"choose": [2, 3]}},
        ("methods.twin: give exactly one of rank, fraction, energy, density (here: rank, fraction)",),
    ),
    "an option of words": (
        {"methods/sum": {"method": "ties", "trim": {"choose": ["global", "tensor"]}}},
        ("methods.sum.trim: a number can be chosen, but trim is text; give one value",),
    ),
    "an option that models are run with": (
        {"methods/sum": {"method": "regmean_plusplus", "alpha": {"choose": [0.5, 0.9]}}},
        ("methods.sum.alpha: 'regmean_plusplus' runs models with what these options say", "or sweep it"),
    ),
    "an option that a method has not": (
        {"methods/sum/density": {"choose": [1, 2]}},
        ("methods.sum: unknown key 'density'", "scaling"),
    ),
    "a router's option": (
        {"methods/twin/router": {"epochs": {"choose": [1, 2]}}},
        ("methods.twin.router.epochs:", "is not a whole number"),
    ),
    "too many": (
        {"methods/sum": {"method": "ties", "density": {"choose": [n / 30 for n in range(1, 22)]},
                         "scaling": {"choose": list(range(1, 21))}}},
        ("methods.sum: its choices have 420 combinations, at most 400 are tried; give fewer values",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_choice_stops_with_one_line(tmp_path: Path, case: str) -> None:
    edits, words = WRONG[case]
    refused(tmp_path, in_suite(edits), *words)


def test_a_task_may_be_called_choose(tmp_path: Path) -> None:
    content = in_suite({"methods/sum/scaling": {"choose": 0.1, "two": 0.2}})
    content["tasks"]["choose"] = content["tasks"].pop("one")
    assert load(tmp_path, content).methods["sum"].choices == {}


def test_the_library_alone_does_not_choose(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        merge("ties", base=tmp_path, experts={"a": tmp_path}, output=tmp_path / "out", scaling={"choose": [1, 2]})
    assert str(caught.value) == (
        "scaling: a number is chosen on validation rows in a suite's workflow alone; give the number"
    )


def test_a_choice_is_filled_into_its_entry(tmp_path: Path) -> None:
    entry = {"method": "dare", "drop_rate": 0.5, "then": {"method": "ties", "scaling": {"choose": [1.0, 2.0]}}}
    file = tmp_path / "choice.json"
    file.write_text(json.dumps({"chosen": {"then.scaling": 2.0}, "average": 90.0, "rows": {"one": 4}}))
    found, said = resolve(entry, file)
    assert found == {"method": "dare", "drop_rate": 0.5, "then": {"method": "ties", "scaling": 2.0}}
    assert said == {
        "values": {"then.scaling": 2.0}, "tried": {"then.scaling": [1.0, 2.0]}, "average": 90.0,
        "validation_rows": {"one": 4},
    }  # fmt: skip
    assert resolve({"method": "emr"}, None) == ({"method": "emr"}, None)
    for chosen, words in (({"then.scaling": 3.0}, "which is none of"), ({}, "which is none of"),
                          ({"then.scaling": 2.0, "more": 1}, "the suite asks for then.scaling")):  # fmt: skip
        file.write_text(json.dumps({"chosen": chosen, "average": 90.0, "rows": {}}))
        with pytest.raises(UserError, match=words):
            resolve(entry, file)


def test_which_candidates_are_merged_together() -> None:
    ties = merging_methods()["ties"]
    options = {"density": {"choose": [0.1, 0.2]}, "scaling": {"choose": [0.5, -2.0, 0.0]}, "lora_space": "product"}
    candidates = candidates_of(choices_in(options))
    assert described(candidates[1]) == "density 0.1, scaling -2"
    assert scale_of(ties, options) == "scaling"
    assert scale_of(ties, {**options, "lora_space": "factor"}) is None
    found = merges_for(candidates, "scaling")
    assert [merge.values for merge in found] == [{"density": 0.1, "scaling": -2.0}, {"density": 0.2, "scaling": -2.0}]
    assert found[1].candidates == [(3, -0.25), (4, 1.0), (5, 0.0)]
    assert [len(merge.candidates) for merge in merges_for(candidates, None)] == [1] * 6
    alone = merges_for([{"density": 0.1}, {"density": 0.2}], "scaling")
    assert [merge.candidates for merge in alone] == [[(0, 1.0)], [(1, 1.0)]]
    dare = merging_methods()["dare"]
    assert scale_of(dare, {"then": {"method": "ties"}}) == "then.scaling"
    assert scale_of(dare, {"then": {"method": "weight_average"}}) is None


def test_editors_know_of_choices(tmp_path: Path) -> None:
    schema = schemas()["suite.schema.json"]
    jsonschema.validate(in_suite(CHOSEN), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(in_suite({"methods/sum/scaling": {"choose": [1]}}), schema)


def test_only_merged_tasks_choose(tmp_path: Path) -> None:
    chosen = {"method": "task_arithmetic", "scaling": {"choose": [0.1, 0.3]}, "leave_out": ["two"]}
    suite = load(tmp_path, in_suite({"methods/mean": chosen}))
    job: tuple[str, dict[str, str]] = ("choose", {"method": "mean"})
    assert job in jobs(suite)
    assert ("answer_validation", {"task": "two"}) not in jobs(suite)
    assert inputs.validation_data(suite, job[1]) == ["results/mine/data/one/validation.parquet"]
    assert inputs.validation_scores(suite, job[1]) == ["results/mine/choices/experts/one.json"]
    assert inputs.tried_from(suite, job[1], "experts") == [
        f"results/mine/experts/one/{name}" for name in ("config.json", "model.safetensors")
    ]
    found = settings.of_job(suite, *job)
    assert [list(found[key]) for key in ("heads", "tasks", "metrics")] == [["one"]] * 3
    assert "left_out" not in found


def test_a_sweep_and_a_choice_in_one_entry(tmp_path: Path) -> None:
    swept = {"method": "ties", "sweep": {"density": [0.1, 0.2]}, "scaling": {"choose": [0.5, 1]}}
    suite = load(tmp_path, in_suite({"methods/mean": swept}))
    assert suite.choosing == ["mean-density-0p1", "mean-density-0p2"]


def test_weights_that_are_chosen_are_a_methods_own(tmp_path: Path) -> None:
    twin = {"method": "twin", "rank": 2, "temperature": {"choose": [0.5, 1]}}
    other = {"methods/other": {"method": "twin", "rank": 3}, "methods/third": {"method": "twin", "rank": 4}}
    suite = load(tmp_path, in_suite({"methods/twin": twin, "methods/again": twin, **other}))
    assert [mixture["models"] for mixture in mixtures(suite)] == [["twin"], ["again"], ["other", "third"]]


def test_a_table_and_a_card_say_what_was_chosen(tmp_path: Path) -> None:
    assert choices_section([]) == []
    content = {
        "name": "mine", "chosen": {"density": 0.2, "scaling": 1.0}, "average": 91.239, "rows": {"one": 500, "two": 277},
        "options": {"density": [0.1, 0.2], "scaling": [0.5, 1.0]}, "candidates": [{}] * 4,
    }  # fmt: skip
    (tmp_path / "mine.json").write_text(json.dumps(content))
    says, table = choices_section([tmp_path / "mine.json"])
    assert "never on test rows" in says
    assert [cell.strip() for cell in table.splitlines()[2].strip("|").split("|")] == [
        "mine", "density 0.2, scaling 1", "density 0.1, 0.2; scaling 0.5, 1", "4", "277 to 500", "91.24"
    ]  # fmt: skip
    chosen = {"values": {"scaling": 0.3}, "tried": {"scaling": [0.1, 0.3]}, "validation_rows": {"one": 20, "two": 20}}
    assert chosen_line(chosen) == "scaling 0.3, chosen on 20 validation rows a task, of scaling 0.1, 0.3"
