"""Sparse exclusive vectors (FREE-Merging, and Twin-Merging with a density), against whole matrices."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.dense_twin import LABELS, DenseLanguageModel, DenseTwin, alone, mixed_batch, router_of
from tests.oracles import free
from tests.suites import edited, load
from tests.tiny import LABELS as TWO
from tests.tiny import merged, tokenizer
from twin_merging import TwinModel
from twin_merging.api.export import export
from twin_merging.checkpoints.groups import PROTOCOLS
from twin_merging.compression.compress import compress
from twin_merging.compression.sparse import dense, largest_entries
from twin_merging.errors import UserError
from twin_merging.io.tensors import Checkpoint, save_tensors
from twin_merging.io.weights import open_directory
from twin_merging.model.adapters import ExclusiveVector
from twin_merging.model.assemble import assemble
from twin_merging.model.sparse_files import SPARSE, load_sparse
from twin_merging.plan import settings
from twin_merging.plan.figures import spectra
from twin_merging.routing.mlp import MLPRouter
from twin_merging.routing.router import router_tensors
from twin_merging.suite.suite import Suite

DENSITY, RESCALE = 0.2, 3.0
OWN: dict[str, Any] = {"method": "free_merging", "shared": "sum", "density": DENSITY, "rescale": RESCALE}
WORDS = ["w1 w2 w3", "w4 w5 w6 w7 w8", "w9 w1", "w2 w2 w2"]


def with_own(folder: Path, entry: dict[str, Any] = OWN, **edits: Any) -> Suite:
    return load(folder, edited({"methods/own": entry, **edits}))


def test_each_row_keeps_its_largest_entries_in_falling_magnitude() -> None:
    matrix = torch.tensor([[1.0, -5.0, 2.0, 0.0, 3.0], [4.0, 4.0, -4.0, 4.0, 0.5]])
    found = largest_entries(matrix, 0.6, 1.0)
    assert found.columns.tolist() == [[1, 4, 2], [0, 1, 2]], "of equal ones the first"
    assert found.values.tolist() == [[-5, 3, 2], [4, 4, -4]]
    assert (found.columns.dtype, found.numbers) == (torch.int16, 12)
    whole = torch.randn(7, 40, generator=torch.Generator().manual_seed(0))
    fine, coarse = largest_entries(whole, 0.5, 1.0), largest_entries(whole, 0.01, 1.0)
    assert fine.cut(1).columns.tolist() == coarse.columns.tolist(), "at least one, and the first of a larger density"
    torch.testing.assert_close(dense(*both(largest_entries(whole, 1.0, 1.0)), (7, 40)), whole)


def both(entries: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return entries.columns, entries.values


def sparse_of(theta: dict[str, torch.Tensor], own: dict[str, torch.Tensor]) -> ExclusiveVector:
    vector = ExclusiveVector()
    for name, value in own.items():
        change = (value - theta[name]).detach()
        if change.dim() == 2:
            vector.sparse[name] = largest_entries(change, DENSITY, 1.0).times(RESCALE)
        else:
            vector.vectors[name] = change
    return vector


def weights_of(kind: str, mixed: torch.Tensor) -> torch.Tensor:
    return mixed if kind == "mixed" else torch.eye(3)[mixed.argmax(1)]


@torch.no_grad()
@pytest.mark.parametrize("kind", ["mixed", "one"])
@pytest.mark.parametrize(("model_type", "protocol"), [("roberta", "reference"), ("bert", "strict")])
def test_each_row_is_answered_by_its_mixture(model_type: str, protocol: str, kind: str) -> None:
    whole = DenseTwin(model_type, protocol, 0.1)
    theta = {n: p.detach() for n, p in whole.body.named_parameters() if whole.protocol.merges(n, p.shape)}
    own = {task: {n: whole._body_of(task)[n] for n in theta} for task in LABELS}
    whole.exclusive = {task: sparse_of(theta, own[task]) for task in LABELS}
    model = whole.twin(router_of(16))
    batch, mixed, tasks = mixed_batch()
    weights = weights_of(kind, mixed)
    answer = model(**batch, weights=weights, tasks=tasks).logits
    models = {task: free(theta, own[task], DENSITY, RESCALE) for task in LABELS}
    whole.exclusive = {task: ExclusiveVector() for task in LABELS}
    for row, task in enumerate(tasks):
        single = whole.merged(weights[row], task)
        put(single.base_model, theta, models, weights[row])
        torch.testing.assert_close(answer[row, : LABELS[task]], single(**alone(batch, row)).logits[0], rtol=1e-4,
                                   atol=1e-5)  # fmt: skip


def put(model: Any, theta: dict[str, torch.Tensor], models: dict[str, Any], row: torch.Tensor) -> None:
    for name, value in model.named_parameters():
        if name in theta:
            changes = [w * (models[task][name] - theta[name]) for task, w in zip(models, row.tolist(), strict=True)]
            value.copy_(theta[name] + sum(changes))


@torch.no_grad()
@pytest.mark.parametrize(("model_type", "tied"), [("gpt2", True), ("llama", False)])
def test_a_language_model_too(model_type: str, tied: bool) -> None:
    whole = DenseLanguageModel(model_type, 0.1, tied)
    theta = {n: p.detach() for n, p in whole.shared.named_parameters()}
    own = {task: dict(expert.named_parameters()) for task, expert in whole.experts.items()}
    short = {task: {whole._name(n): p for n, p in own[task].items()} for task in own}
    whole.exclusive = {task: sparse_of({whole._name(n): p for n, p in theta.items()}, short[task]) for task in own}
    model = whole.twin(router_of(16))
    batch, mixed, _ = mixed_batch(left=True)
    models = {task: free(theta, own[task], DENSITY, RESCALE) for task in own}
    for kind in ("mixed", "one"):
        weights = weights_of(kind, mixed)
        answer = model(**batch, weights=weights).logits
        for row in range(len(weights)):
            single = copy.deepcopy(whole.shared)
            put(single, theta, models, weights[row])
            kept = batch["attention_mask"][row].bool()
            torch.testing.assert_close(answer[row, kept], single(**alone(batch, row)).logits[0], rtol=1e-4, atol=2e-5)


def test_an_entry_is_twin_with_a_density(tmp_path: Path) -> None:
    suite = with_own(tmp_path)
    other = with_own(tmp_path, {**OWN, "method": "twin", "top_k": 1})
    assert suite.methods["own"].options == other.methods["own"].options
    assert suite.compression("sum")["density"] == DENSITY
    job = settings.of_job(suite, "compress", {"shared": "sum", "task": "one"})
    assert job["sizes"]["density"] == DENSITY
    alone = with_own(tmp_path, {"method": "free_merging", "shared": "fr"}, **{"methods/fr": {"method": "fr_merging"}})
    assert alone.compression("fr") == {"density": 0.02}
    assert alone.methods["own"].options["rescale"] == 8
    assert "fr" not in spectra(alone), "no singular values are stored"


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (
            {"method": "twin", "density": 0.1, "rank": 2},
            "give exactly one of rank, fraction, energy, density (here: rank, d",
        ),
        ({"method": "twin", "rank": 2, "rescale": 2.0}, "methods.own: rescale is the factor of sparse matrices"),
        ({**OWN, "store": "int8"}, "methods.own: store: int8 is a format of low-rank factors"),
        ({"method": "twin", "density": 0.1, "lora_space": "factor"}, "density cannot be with lora_space: factor"),
        ({**OWN, "ablations": True}, "methods.own.ablations: 'free_merging' has none; write the entry as method: twin"),
        ({**OWN, "density": 0}, "methods.own.density: 0 must be more than 0"),
    ],
)
def test_a_wrong_entry_is_told_in_one_sentence(entry: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        with_own(tmp_path, {"shared": "sum", **entry})
    assert words in str(caught.value)


@torch.no_grad()
def test_an_assembled_model_and_its_files(fetched: Path, tmp_path: Path) -> None:
    entry = {**OWN, "protocol": "strict", "shared": "sum-strict"}
    suite = with_own(tmp_path, entry, **{"methods/sum-strict": {"method": "task_arithmetic", "protocol": "strict"}})
    shared = merged(fetched, tmp_path / "shared", "task_arithmetic", {"scaling": 0.5}, "strict")
    exclusives = {task: tmp_path / f"{task}.safetensors" for task in TWO}
    for task, file in exclusives.items():
        vectors = {task: fetched / f"task_vectors/{task}.safetensors"}
        compress(task=task, base=fetched / "base", task_vectors=vectors, shared=shared, protocol=PROTOCOLS["strict"],
                 sizes={"density": 0.5, "rank": 2}, output=file)  # fmt: skip
    torch.manual_seed(0)
    save_tensors(tmp_path / "router", router_tensors(MLPRouter(list(TWO), 16, hidden_size=8)))
    router = {"kind": "mlp", "features": "last", "hidden_size": 8, "epochs": 1, "batch_size": 2, "learning_rate": 1.0,
              "weight_decay": 0.0, "dropout": 0.0}  # fmt: skip
    own = suite.methods["own"].plain()
    assemble(own, "oracle", shared, exclusives, tmp_path / "router", router, tmp_path / "model")
    model: Any = TwinModel.from_pretrained(tmp_path / "model")
    batch = tokenizer()(WORDS, return_tensors="pt", padding=True)
    tasks = ["one", "two", "two", "one"]
    answer = model(**batch, weights=torch.tensor([[1.0, 0], [0, 1], [0, 1], [1, 0]]), tasks=tasks).logits
    start, stored = open_directory(shared), {}
    for task in TWO:
        expert = open_directory(fetched / "experts" / task)
        names = [name for name in start if PROTOCOLS["strict"].merges(name, start.shape(name))]
        own_values = {name: expert[f"roberta.{name}"] for name in names}
        stored[task] = free({n: start[n] for n in names}, own_values, DENSITY, RESCALE)
        export(tmp_path / "model", {task: 1.0}, tmp_path / f"single-{task}")
        single = open_directory(tmp_path / f"single-{task}")
        for name in names:
            torch.testing.assert_close(single[f"roberta.{name}"], stored[task][name].float(), rtol=1e-4, atol=1e-6)
    from transformers import AutoModelForSequenceClassification

    for row, task in enumerate(tasks):
        one = AutoModelForSequenceClassification.from_pretrained(tmp_path / f"single-{task}")
        wanted = one(**tokenizer()(WORDS[row], return_tensors="pt")).logits[0]
        torch.testing.assert_close(answer[row, : TWO[task]], wanted, rtol=1e-4, atol=1e-5)
    model.save_pretrained(tmp_path / "again")
    for task in TWO:
        files = [tmp_path / place / "exclusive" / task / SPARSE for place in ("model", "again")]
        assert files[0].read_bytes() == files[1].read_bytes()
        assert model.record["tasks"][task]["exclusive_numbers"] == sum(
            Checkpoint(*(files[0].parent).glob("*.safetensors")).size(name)
            // Checkpoint(*(files[0].parent).glob("*.safetensors")).dtype(name).itemsize
            for name in Checkpoint(*(files[0].parent).glob("*.safetensors"))
        )
    with pytest.raises(UserError, match="sparse exclusive vectors, which are no LoRAs"):
        export(tmp_path / "model", {"one": 1.0}, tmp_path / "lora", form="lora")
    assemble({**own, "store": "bfloat16"}, "oracle", shared, exclusives, tmp_path / "router", router, tmp_path / "bf16")
    coarse: Any = TwinModel.from_pretrained(tmp_path / "bf16")
    torch.testing.assert_close(
        coarse(**batch, tasks=tasks).logits, model(**batch, tasks=tasks).logits, rtol=0.1, atol=0.02
    )
    file = tmp_path / "model" / "exclusive" / "one" / SPARSE
    damaged = dict(Checkpoint(file))
    damaged.pop(next(name for name in damaged if name.endswith(".values")))
    save_tensors(file, damaged)
    with pytest.raises(UserError, match="is not one of the two, columns and values"):
        load_sparse(file.parent)
