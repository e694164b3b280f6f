"""`weights: expected_loss`: scores under each task's vector, and the route that promises the most by them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests.plans import planned, stale
from tests.suites import SUITE, load, refused
from tests.suites import edited as in_suite
from tests.tiny import LABELS, merged, sentences
from twin_merging.api.export import single_model
from twin_merging.api.twin import twin_merge
from twin_merging.checkpoints.groups import PROTOCOLS
from twin_merging.choosing.assembled import AssembledCandidates
from twin_merging.choosing.crossed import cross_scores
from twin_merging.choosing.validation import ValidationRows
from twin_merging.compression.compress import compress
from twin_merging.errors import UserError
from twin_merging.io.files import read_json, write_json
from twin_merging.io.tensors import save_tensors
from twin_merging.model.assemble import assemble
from twin_merging.plan import inputs
from twin_merging.plan.figures import mixtures
from twin_merging.plan.resources import of_job
from twin_merging.prediction.answers import answer_rows
from twin_merging.prediction.predict import load_merged
from twin_merging.routing.expected import CROSS_ROWS, gains_of, read_gains
from twin_merging.routing.kinds import load_router
from twin_merging.routing.mlp import MLPRouter
from twin_merging.routing.router import router_tensors
from twin_merging.scoring.metrics import score
from twin_merging.tasks.families import family_named

TEXT = {"one": ("sentence",), "two": ("premise", "hypothesis")}
TASKS = list(TEXT)
INFERENCE = {"max_length": 24, "batch_size": 16}
MLP = {"kind": "mlp", "features": "last", "hidden_size": 8, "epochs": 1, "batch_size": 2, "learning_rate": 1.0,
       "weight_decay": 0.0, "dropout": 0.0}  # fmt: skip
ENTRY = {"method": "twin", "protocol": "strict", "shared": "sum", "rank": 16, "router": None, "head": "oracle",
         "top_k": None, "onepass": False, "temperature": 1.0, "lora_space": "product",
         "weights": "expected_loss"}  # fmt: skip
SCORES = {"one": {"one": 0.8, "two": 0.4}, "two": {"one": 0.9, "two": 1.0}}


def test_gains_are_shares_of_the_own_vectors_score(tmp_path: Path) -> None:
    assert gains_of(SCORES, TASKS) == [[1.0, 0.5], [0.9, 1.0]]
    of_none = {"one": {"one": -0.1, "two": 0.7}, "two": SCORES["two"]}
    assert gains_of(of_none, TASKS) == [[1.0, 0.0], [0.9, 1.0]]
    write_json(tmp_path / "choice.json", {"scores": SCORES})
    assert read_gains(tmp_path / "choice.json", TASKS) == [[1.0, 0.5], [0.9, 1.0]]
    with pytest.raises(UserError, match=r"choice\.json: holds no scores of two, one under each task's vector; remove"):
        read_gains(tmp_path / "choice.json", ["two", "one"])


def test_the_largest_expected_gain_decides(tmp_path: Path) -> None:
    """A row goes to the task whose vector loses least, which need not be the likeliest."""
    torch.manual_seed(0)
    router = MLPRouter(["a", "b", "c"], 4).eval()
    plain = router.weights(x := torch.randn(200, 4, generator=torch.Generator().manual_seed(1)))
    gains = [[1.0, 0.1, 0.2], [0.9, 1.0, 0.9], [0.3, 0.2, 1.0]]
    router.gains = torch.tensor(gains)
    found = router.routed(x)
    for p, task in zip(plain.tolist(), found.tasks.tolist(), strict=True):
        expected = [sum(p[t] * gains[t][u] for t in range(3)) for u in range(3)]
        assert task == expected.index(max(expected))
    assert torch.equal(found.weights, torch.nn.functional.one_hot(found.tasks, 3).float())
    assert (found.tasks != plain.argmax(-1)).any()
    router.save(tmp_path)
    assert set(router_tensors(router)) == set(router_tensors(MLPRouter(["a"], 4)))
    assert torch.equal(load_router(tmp_path).weights(x), found.weights)
    router.gains = torch.eye(3)
    assert torch.equal(router.routed(x).tasks, plain.argmax(-1))


def read(tokenizer: Path, table: Any, columns: tuple[str, ...]) -> Any:
    texts = [table[column].tolist() for column in columns]
    loaded = AutoTokenizer.from_pretrained(tokenizer)
    return loaded(*texts, return_tensors="pt", padding=True, truncation=True, max_length=24)


@pytest.fixture(scope="module")
def parts(fetched: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a method's model is assembled of, and validation rows that each task's expert answers rightly."""
    root = tmp_path_factory.mktemp("crossed")
    shared = merged(fetched, root / "shared", "task_arithmetic", {"scaling": 0.3}, "strict")
    exclusives = {task: root / f"{task}.safetensors" for task in TEXT}
    for seed, (task, columns) in enumerate(TEXT.items()):
        vector = {task: fetched / f"task_vectors/{task}.safetensors"}
        compress(task=task, base=fetched / "base", task_vectors=vector, shared=shared, sizes={"rank": 16},
                 protocol=PROTOCOLS["strict"], output=exclusives[task])  # fmt: skip
        (root / task).mkdir()
        table = sentences(70 + seed, 40, LABELS[task], columns)
        expert = AutoModelForSequenceClassification.from_pretrained(fetched / "experts" / task).eval()
        answers = expert(**read(fetched / "base", table, columns)).logits.argmax(-1).tolist()
        table.assign(label=answers).to_parquet(root / task / "validation.parquet")
    torch.manual_seed(0)
    save_tensors(root / "router", router_tensors(MLPRouter(TASKS, 16, hidden_size=8)))
    family = family_named("encoder")
    data = {task: root / task for task in TEXT}
    views = family.views(family.answers, {task: {"text": TEXT[task], "labels": LABELS[task]} for task in TEXT}, data)
    rows = ValidationRows(data, views, dict.fromkeys(TEXT, "accuracy"), 30, INFERENCE)
    return {"shared": shared, "exclusives": exclusives, "router": root / "router", "rows": rows}


@pytest.mark.parametrize("head", ["oracle", "routed"])
def test_scores_under_each_vector_are_those_of_models_that_are_merged_so(
    head: str, parts: dict[str, Any], tmp_path: Path
) -> None:
    rows: ValidationRows = parts["rows"]
    own = {key: parts[key] for key in ("shared", "exclusives", "router")}
    candidates = AssembledCandidates(
        ENTRY, head, **own, router_settings=MLP, factors=None, dtype="float32", place=tmp_path / "place"
    )
    cross_scores(name="twin", candidates=candidates, rows=rows, head=head, output=tmp_path / "choice.json")
    found = read_json(tmp_path / "choice.json")
    assert not (tmp_path / "place").exists()
    assert found["rows"] == {"one": 30, "two": 30}
    assemble(ENTRY, head, own["shared"], own["exclusives"], own["router"], MLP, tmp_path / "model")
    model: Any = load_merged(tmp_path / "model")
    for route in TASKS:
        for task, columns in TEXT.items():
            single = single_model(model, {route: 1.0}, task if head == "oracle" else route).eval()
            answers = single(**read(tmp_path / "model", rows.rows[task], columns)).logits.argmax(-1).tolist()
            assert found["scores"][task][route] == pytest.approx(score("accuracy", answers, rows.references[task]))
    assert [found["scores"][task][task] for task in TASKS] == [1.0, 1.0]
    assert any(found["scores"][task][other] < 1 for task, other in (TASKS, TASKS[::-1]))
    gains = read_gains(tmp_path / "choice.json", TASKS)
    assert found["gains"] == dict(zip(TASKS, gains, strict=True))
    assemble(ENTRY, head, own["shared"], own["exclusives"], own["router"], MLP, tmp_path / "final", gains=gains)
    final: Any = load_merged(tmp_path / "final")
    torch.testing.assert_close(final.router.gains, torch.tensor(gains))
    routed = answer_rows(final, tmp_path / "final", rows.rows, rows.views, INFERENCE, head)
    assert all(sorted(one.weights or []) == [0.0, 1.0] for one in routed)


# -- suites

EXPECTED = {"methods/twin": {"method": "twin", "fraction": 0.1, "weights": "expected_loss", "temperature": "calibrate"}}


def test_what_is_planned(tmp_path: Path) -> None:
    before = load(tmp_path, in_suite({"methods/twin/temperature": "calibrate"}))
    suite = load(tmp_path, in_suite(EXPECTED))
    assert stale(before, suite) >= {"choose(twin)", "assemble(twin)"}
    assert not any(job.startswith(("answer_validation", "route", "compress")) for job in stale(before, suite))
    assert {job for job in planned(suite) if job not in planned(before)} == {"choose(twin)"}
    assert (suite.with_router, suite.choosing, suite.tried, suite.told) == (["twin"], [], ["twin"], [])
    wildcards = {"method": "twin"}
    assert inputs.validation_scores(suite, wildcards) == []
    assert inputs.own_choice(suite, wildcards) == ["results/mine/choices/twin.json"]
    assert inputs.choices(suite, {}) == []
    assert not any("test" in file for file in inputs.validation_data(suite, wildcards))
    assert f"'limit': {CROSS_ROWS}" in planned(suite)["choose(twin)"]
    few = load(tmp_path, in_suite({**EXPECTED, "limits": {"validation": 7}}))
    assert "'limit': 7" in planned(few)["choose(twin)"]
    assert of_job(suite, "choose", wildcards).mem_mb > 0
    both = load(tmp_path, in_suite({**EXPECTED, "methods/plain": {"method": "twin", "fraction": 0.1}}))
    assert len(mixtures(both)) == 2


def test_a_choice_beside_it_is_refused(tmp_path: Path) -> None:
    content = {"methods/twin": {"method": "twin", "rank": {"choose": [1, 2]}, "weights": "expected_loss"}}
    refused(tmp_path, in_suite(content), "methods.twin.weights: expected_loss rests on one model's scores, and rank")
    assert "'weights'" not in planned(load(tmp_path, SUITE))["assemble(twin)"]


def test_texts_alone_have_no_scores(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^weights: expected_loss rests on scores of validation rows"):
        twin_merge(base="b", experts={"a": "e"}, texts={"a": ["x", "y"]}, output=tmp_path / "o", rank=1,
                   weights="expected_loss")  # fmt: skip
