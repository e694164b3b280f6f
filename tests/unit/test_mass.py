"""MASS: rows that are answered by TSV-M of the tasks they keep, against whole merges; a suite's entry and its jobs."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.pytorch_utils import Conv1D

from tests.dense_twin import LABELS, DenseLanguageModel, DenseTwin, alone, factors, mixed_batch, router_of
from tests.oracles import tsv_m
from tests.suites import edited, load
from tests.tiny import LABELS as TWO
from tests.tiny import merged, tokenizer
from twin_merging import TwinModel
from twin_merging.api.export import export
from twin_merging.checkpoints.groups import PROTOCOLS
from twin_merging.compression.compress import compress
from twin_merging.errors import UserError
from twin_merging.io.tensors import Checkpoint, save_tensors
from twin_merging.io.weights import open_directory
from twin_merging.model import joined
from twin_merging.model.assemble import assemble
from twin_merging.model.loading import load_body
from twin_merging.plan import inputs
from twin_merging.plan.targets import jobs, making
from twin_merging.routing.features import features_of
from twin_merging.routing.training import make_router
from twin_merging.suite.suite import Suite

# Which tasks each of six rows keeps, by weights that play no other part.
KEPT = torch.tensor([[0.7, 0.3, 0], [0, 1, 0], [0.2, 0.3, 0.5], [0.4, 0, 0.6], [0.1, 0.9, 0], [0, 0, 1]])
PROJECTION = {"kind": "projection", "features": {"layer": 1}}
OWN: dict[str, Any] = {"method": "mass", "first_pass": "tsv", "router": PROJECTION}


def with_own(folder: Path, entry: dict[str, Any] = OWN, **edits: Any) -> Suite:
    return load(folder, edited({"methods/tsv": {"method": "tsv_m"}, "methods/own": entry, **edits}))


def dense(model: Any, names: list[str], theta: dict[str, torch.Tensor], taus: dict[str, dict[str, torch.Tensor]],
          row: torch.Tensor) -> None:  # fmt: skip
    """Put TSV-M of the tasks that a row keeps into a model, for parameters of some names."""
    kept = {task: taus[task] for task, weight in zip(taus, row.tolist(), strict=True) if weight}
    found = tsv_m({n: theta[n] for n in names}, kept, count=len(taus))
    own = dict(model.named_parameters())
    for name in names:
        own[name].copy_(found[name])


@torch.no_grad()
@pytest.mark.parametrize(("model_type", "protocol"), [("roberta", "reference"), ("bert", "strict"), ("bert", "linear")])
def test_each_row_is_answered_by_the_merge_of_the_tasks_it_keeps(model_type: str, protocol: str) -> None:
    whole = DenseTwin(model_type, protocol, 1 / 3)
    batch, _, tasks = mixed_batch()
    theta = {n: p.detach() for n, p in whole.body.named_parameters()}
    names = [n for n, p in theta.items() if whole.protocol.merges(n, p.shape)]
    taus = {task: {n: whole._body_of(task)[n].detach() - theta[n] for n in names} for task in LABELS}
    for task, vector in whole.exclusive.items():  # at least one triple, of an embedding of two rows too
        few = [n for n in names if theta[n].dim() == 2 and n not in vector.factors]
        vector.factors |= {n: factors(taus[task][n], 1, False) for n in few}
    model = whole.twin(router_of(16))
    model.gates.joined = True
    answer = model(**batch, weights=KEPT, tasks=tasks)
    torch.testing.assert_close(answer.weights, KEPT)
    for row, task in enumerate(tasks):
        single = whole.merged(torch.zeros(3), task)
        dense(single.base_model, names, theta, taus, KEPT[row])
        wanted = single(**alone(batch, row)).logits[0]
        torch.testing.assert_close(answer.logits[row, : LABELS[task]], wanted, rtol=1e-4, atol=1e-5)
    one = model(**{name: value[[2]] for name, value in batch.items()}, weights=KEPT[[2]], tasks=tasks[2:3])
    torch.testing.assert_close(one.logits[0], answer.logits[2], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="cannot be compiled"):
        model.compile()


@torch.no_grad()
@pytest.mark.parametrize(("model_type", "tied"), [("gpt2", True), ("llama", False)])
def test_a_language_model_too(model_type: str, tied: bool) -> None:
    whole = DenseLanguageModel(model_type, 1 / 3, tied)
    model = whole.twin(router_of(16))
    model.gates.joined = True
    batch, _, _ = mixed_batch(left=True)
    theta = {n: p.detach() for n, p in whole.shared.named_parameters()}
    taus = {
        task: {n: p.detach() - theta[n] for n, p in expert.named_parameters()} for task, expert in whole.experts.items()
    }
    assert any(isinstance(part, Conv1D) for part in whole.shared.modules()) == (model_type == "gpt2")
    answer = model(**batch, weights=KEPT).logits
    for row in range(len(KEPT)):
        single = copy.deepcopy(whole.shared)
        dense(single, list(theta), theta, taus, KEPT[row])
        wanted = single(**alone(batch, row)).logits[0]
        kept = batch["attention_mask"][row].bool()
        torch.testing.assert_close(answer[row, kept], wanted, rtol=1e-4, atol=2e-5)


def test_directions_that_tasks_have_in_common_are_merged_too() -> None:
    """As TSV-M has it: of what is the same in two tasks, one direction is left."""
    down, up = torch.eye(4)[:2], torch.eye(5)[:, :2] * torch.tensor([2.0, 1.0])
    twice = torch.cat([down, down]), torch.cat([up, up], 1)
    found = twice[1].double() @ joined.core_of(*twice) @ twice[0].double()
    torch.testing.assert_close(found, up.double() @ down.double())


def test_the_cores_of_few_sets_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joined, "SETS", 2)
    whole = DenseTwin("bert", "strict", 1 / 3)
    model = whole.twin(router_of(16))
    model.gates.joined = True
    batch, _, tasks = mixed_batch()
    model(**batch, weights=KEPT, tasks=tasks)
    layer: Any = model.body.encoder.layer[0].output.dense
    assert [tasks for tasks, _ in layer.cores] == [(0, 1, 2), (0, 2)]


def test_an_entry_stores_the_share_of_tsv_m_and_its_router_reads_that(tmp_path: Path) -> None:
    suite = with_own(tmp_path)
    options = suite.methods["own"].options
    assert (options["shared"], options["fraction"], options["first_pass"]) == ("pretrained-reference", 0.5, "tsv")
    assert suite.read_by("own") == "tsv"
    router = suite.router_name("own")
    assert router.startswith("tsv/projection-layer-1")
    assert suite.router_settings(router)["layer"] == 1
    needed = inputs.router_features(suite, {"router": router})
    assert needed.endswith("router/tsv/features/layer-1.safetensors")
    assert ("merge", {"method": "tsv"}) in making(suite, "own")
    assert ("compress", {"shared": "pretrained-reference", "task": "one"}) in jobs(suite)
    of_base = {**OWN, "router": {"kind": "mahalanobis", "features": {"of": "base", "layer": 1}}}
    assert with_own(tmp_path, of_base).read_by("own") == "pretrained"
    swept = with_own(tmp_path, {**OWN, "sweep": {"tasks": [1, 2]}},
                     **{"methods/tsv": {"method": "tsv_m", "sweep": {"tasks": [1, 2]}}})  # fmt: skip
    assert [swept.methods[f"own-tasks-{n}"].options["first_pass"] for n in (1, 2)] == ["tsv-tasks-1", "tsv-tasks-2"]
    assert [swept.methods[f"own-tasks-{n}"].options["fraction"] for n in (1, 2)] == [1, 0.5]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"method": "mass"}, "methods.own: key 'first_pass' is missing"),
        (
            {**OWN, "first_pass": "sum"},
            "methods.own.first_pass: 'mass' reads the hidden states of TSV-M, which 'sum' is",
        ),
        ({**OWN, "first_pass": "nothing"}, "methods.own.first_pass:"),
        ({**OWN, "shared": "sum"}, "methods.own.shared: 'mass' adds its vectors to the base itself, which 'sum'"),
        ({**OWN, "protocol": "strict"}, "methods.own.first_pass: 'tsv' is merged under protocol reference"),
        ({**OWN, "fraction": 0.1}, "methods.own: unknown key 'fraction'"),
        ({**OWN, "ablations": True}, "methods.own.ablations: 'mass' has no shared expert to leave out"),
    ],
)
def test_a_wrong_entry_is_told_in_one_sentence(entry: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        with_own(tmp_path, entry)
    assert words in str(caught.value)


@torch.no_grad()
def test_two_passes_of_an_assembled_model(fetched: Path, tmp_path: Path) -> None:
    """The first pass reads what TSV-M of all tasks has; the second is that of the kept tasks; both as a whole merge."""
    suite = with_own(tmp_path)
    bodies = {
        "sum": merged(fetched, tmp_path / "sum", "task_arithmetic", {"scaling": 0}, "reference"),
        "tsv": merged(fetched, tmp_path / "tsv", "tsv_m", {}, "reference"),
    }
    exclusives = {task: tmp_path / f"{task}.safetensors" for task in TWO}
    for task, file in exclusives.items():
        vectors = {task: fetched / f"task_vectors/{task}.safetensors"}
        compress(task=task, base=fetched / "base", task_vectors=vectors, shared=bodies["sum"],
                 sizes=suite.compression("pretrained-reference"), protocol=PROTOCOLS["reference"],
                 output=file)  # fmt: skip
    batch = tokenizer()(["w1 w2 w3", "w4 w5 w6 w7 w8", "w9 w1", "w2 w2"], return_tensors="pt", padding=True)
    read = features_of(
        load_body(bodies["tsv"]), {"layer": 1}, batch["attention_mask"], None, input_ids=batch["input_ids"]
    )
    save_tensors(tmp_path / "features", {f"{task}/validation": read for task in TWO})
    vectors = {task: fetched / f"task_vectors/{task}.safetensors" for task in TWO}
    settings = suite.weighing("own")
    make_router(features=tmp_path / "features", tasks=list(TWO), settings=settings, seed=0, output=tmp_path / "state",
                metrics=tmp_path / "metrics.json", task_vectors=vectors)  # fmt: skip
    assemble(suite.methods["own"].plain(), suite.head("own"), bodies["sum"], exclusives, tmp_path / "state", settings,
             tmp_path / "model")  # fmt: skip
    model: Any = TwinModel.from_pretrained(tmp_path / "model")
    torch.testing.assert_close(model._hidden(batch["attention_mask"], {"input_ids": batch["input_ids"]}), read,
                               rtol=1e-4, atol=1e-5)  # fmt: skip
    answer = model(**batch)
    torch.testing.assert_close(answer.weights, model.router.weights(read), rtol=1e-4, atol=1e-4)
    both = model(**batch, weights=torch.full((4, 2), 0.5), tasks=["one"] * 4).logits
    static: Any = TwinModel.from_pretrained(bodies["tsv"])
    torch.testing.assert_close(both, static(**batch, tasks=["one"] * 4).logits, rtol=1e-4, atol=1e-5)
    model.save_pretrained(tmp_path / "again")
    again: Any = TwinModel.from_pretrained(tmp_path / "again")
    torch.testing.assert_close(again(**batch).logits, answer.logits)
    export(tmp_path / "model", {"one": 0.2, "two": 1.0}, tmp_path / "single", task="one")
    single, tsv = open_directory(tmp_path / "single"), open_directory(bodies["tsv"])
    for name in Checkpoint(fetched / "task_vectors" / "one.safetensors"):
        if PROTOCOLS["reference"].merges(name, tsv.shape(name)):
            torch.testing.assert_close(single[f"roberta.{name}"], tsv[name], rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match="no sum of LoRAs"):
        export(tmp_path / "model", {"one": 1.0}, tmp_path / "lora", form="lora")
