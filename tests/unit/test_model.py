"""The dynamic model: one gated forward against a model merged explicitly for every input."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.dense_twin import DECODERS, ENCODERS, LABELS, DenseTwin, alone, mixed_batch, router_of
from tests.tiny import config_of
from twin_merging.checkpoints.groups import PROTOCOLS, group_of
from twin_merging.errors import UserError
from twin_merging.model.adapters import AdapterForm, load_exclusive, save_exclusive
from twin_merging.model.classifier import TwinForSequenceClassification
from twin_merging.model.twin import TwinModel
from twin_merging.routing.kinds import load_router
from twin_merging.routing.router import Router, keep_largest


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("model_type", [*ENCODERS, *DECODERS])
def test_a_mixed_batch_is_answered_as_by_explicit_merging_of_each_row(model_type: str, protocol: str) -> None:
    dense = DenseTwin(model_type, protocol, fraction=0.25)
    batch, weights, tasks = mixed_batch()
    with torch.no_grad():
        answer = dense.twin()(**batch, weights=weights, tasks=tasks)
    assert answer.logits.shape == (len(tasks), max(LABELS.values()))
    for row, task in enumerate(tasks):
        wanted = dense.explicit(weights[row], task, **alone(batch, row))
        torch.testing.assert_close(answer.logits[row, : LABELS[task]], wanted, rtol=1e-5, atol=1e-5)
        assert (answer.logits[row, LABELS[task] :] == -torch.inf).all()


@pytest.mark.parametrize("model_type", [*ENCODERS, *DECODERS])
def test_full_rank_and_one_hot_weights_give_the_expert(model_type: str) -> None:
    dense = DenseTwin(model_type, "strict", fraction=1.0)
    batch, _, _ = mixed_batch()
    for index, task in enumerate(LABELS):
        weights = torch.zeros(6, 3)
        weights[:, index] = 1
        with torch.no_grad():
            answer = dense.twin()(**batch, weights=weights, tasks=[task] * 6)
            wanted = dense.experts[task](**batch).logits
        torch.testing.assert_close(answer.logits[:, : LABELS[task]], wanted, rtol=1e-4, atol=1e-5)


def test_rank_0_gives_the_shared_expert_whatever_the_weights() -> None:
    dense = DenseTwin("roberta", "reference", fraction=0.0)
    batch, weights, tasks = mixed_batch()
    static = dense.static()
    with torch.no_grad():
        answer = dense.twin()(**batch, weights=weights, tasks=tasks).logits
        wanted = static(**batch, tasks=tasks).logits
        norms_apart = not torch.equal(answer, wanted)
    for vector in dense.exclusive.values():
        vector.vectors.clear()
    with torch.no_grad():
        answer = dense.twin()(**batch, weights=weights, tasks=tasks).logits
    assert norms_apart  # LayerNorm weights are stored whole at any rank
    assert torch.equal(answer, wanted)


def test_permuting_the_tasks_permutes_nothing_but_the_weights() -> None:
    dense = DenseTwin("roberta", "strict", fraction=0.25)
    batch, weights, tasks = mixed_batch()
    order = ["c", "a", "b"]
    other = TwinForSequenceClassification(
        copy.deepcopy(dense.body), {task: LABELS[task] for task in order}, dense.private, dense.exclusive
    )
    columns = [list(LABELS).index(task) for task in order]
    with torch.no_grad():
        one = dense.twin()(**batch, weights=weights, tasks=tasks).logits
        two = other(**batch, weights=weights[:, columns], tasks=tasks).logits
    torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


def test_batch_composition_and_padding_change_nothing() -> None:
    dense = DenseTwin("roberta", "reference", fraction=0.25)
    batch, weights, tasks = mixed_batch()
    model = dense.twin()
    with torch.no_grad():
        together = model(**batch, weights=weights, tasks=tasks).logits
        for row in range(len(tasks)):
            answer = model(**alone(batch, row), weights=weights[row : row + 1], tasks=tasks[row : row + 1]).logits
            torch.testing.assert_close(answer[0], together[row], rtol=1e-5, atol=1e-5)


def test_an_expert_of_weight_0_for_the_whole_batch_changes_nothing_and_is_not_multiplied() -> None:
    dense = DenseTwin("roberta", "strict", fraction=0.25)
    batch, _, _ = mixed_batch()
    weights = torch.tensor([[0.4, 0.0, 0.6]]).repeat(6, 1)
    with torch.no_grad():
        wanted = dense.twin()(**batch, weights=weights, tasks=["a"] * 6).logits
        down, up = dense.exclusive["b"].factors["encoder.layer.0.output.dense.weight"]
        dense.exclusive["b"].factors["encoder.layer.0.output.dense.weight"] = (down * torch.nan, up)
        answer = dense.twin()(**batch, weights=weights, tasks=["a"] * 6).logits
    assert torch.equal(answer, wanted)


def router(temperature: float = 1.0, top_k: int | None = None) -> Router:
    return router_of(config_of("roberta").hidden_size, "last", temperature, top_k)


def test_the_router_reads_the_shared_body_and_its_task_answers_when_none_is_named() -> None:
    dense = DenseTwin("roberta", "reference", fraction=0.25)
    batch, _, _ = mixed_batch()
    model = dense.twin(router())
    with torch.no_grad():
        hidden = dense.body(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None]
        wanted = router()((hidden * mask).sum(1) / mask.sum(1)).softmax(-1)
        answer = model(**batch)
        named = [list(LABELS)[index] for index in wanted.argmax(-1).tolist()]
        again = model(**batch, weights=wanted, tasks=named)
    torch.testing.assert_close(answer.weights, wanted, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(answer.logits, again.logits, rtol=1e-5, atol=1e-5)


def test_top_k_renormalises_and_temperature_sharpens() -> None:
    features = torch.randn(4, config_of("roberta").hidden_size, generator=torch.Generator().manual_seed(1))
    plain = router().weights(features)
    two = router(top_k=2).weights(features)
    assert (two.ne(0).sum(-1) == 2).all()
    torch.testing.assert_close(two.sum(-1), torch.ones(4))
    assert (router(temperature=0.1).weights(features).max(-1).values >= plain.max(-1).values).all()
    torch.testing.assert_close(keep_largest(torch.tensor([[0.5, 0.5, 0.0]]), 1), torch.tensor([[1.0, 0.0, 0.0]]))


def test_the_router_is_the_same_after_saving(tmp_path: Path) -> None:
    saved = router(temperature=0.5, top_k=2)
    saved.save(tmp_path)
    loaded = load_router(tmp_path)
    features = torch.randn(3, saved.size)
    assert torch.equal(loaded.weights(features), saved.weights(features))
    assert (loaded.tasks, loaded.temperature, loaded.top_k) == (list(LABELS), 0.5, 2)


@pytest.mark.parametrize("model_type", ["roberta", "bert"])
def test_peft_loads_an_exclusive_vector_with_the_numbers_of_weight_1(model_type: str, tmp_path: Path) -> None:
    from peft import PeftModel

    dense = DenseTwin(model_type, "reference", fraction=0.25)
    vector = dense.exclusive["b"]
    vector.factors["embeddings.position_embeddings.weight"] = tuple(  # type: ignore[assignment]
        part[:2] if part.shape[0] < part.shape[1] else part[:, :2]
        for part in vector.factors["embeddings.position_embeddings.weight"]
    )
    save_exclusive(vector, tmp_path, AdapterForm.of(dense.body))
    loaded = load_exclusive(tmp_path)
    assert loaded.vectors.keys() == vector.vectors.keys()
    for name, pair in vector.factors.items():
        assert all(torch.equal(one, other) for one, other in zip(pair, loaded.factors[name], strict=True))
    adapted: Any = PeftModel.from_pretrained(copy.deepcopy(dense.body), str(tmp_path)).eval()
    batch, _, _ = mixed_batch()
    wanted = copy.deepcopy(dense.body)
    with torch.no_grad():
        for name, (down, up) in vector.factors.items():
            wanted.get_parameter(name).add_(up @ down)
        torch.testing.assert_close(
            adapted(**batch).last_hidden_state, wanted(**batch).last_hidden_state, rtol=1e-5, atol=1e-5
        )


def test_wrong_calls_say_what_is_wrong(tmp_path: Path) -> None:
    dense = DenseTwin("roberta", "strict", fraction=0.25)
    batch, weights, tasks = mixed_batch()
    model, static = dense.twin(), dense.static()
    with pytest.raises(ValueError, match="give tasks"):
        static(**batch)
    with pytest.raises(ValueError, match=r"weights are \(6, 2\), but this batch needs \(6, 3\)"):
        model(**batch, weights=weights[:, :2])
    with pytest.raises(ValueError, match="unknown task 'd'"):
        model(**batch, weights=weights, tasks=[*tasks[:-1], "d"])
    with pytest.raises(ValueError, match="5 tasks for 6 rows"):
        model(**batch, weights=weights, tasks=tasks[:-1])
    with pytest.raises(ValueError, match="leave out labels"):
        model(**batch, weights=weights, labels=torch.zeros(6))
    with pytest.raises(ValueError, match="leave out return_dict"):
        model(**batch, weights=weights, return_dict=False)
    with pytest.raises(UserError, match=r"no merge\.json"):
        TwinModel.from_pretrained(tmp_path)
    del dense.private["a"]["classifier.dense.weight"]
    with pytest.raises(UserError, match=r"task 'a' lack 'classifier\.dense\.weight'"):
        dense.twin()


def test_biases_are_private_under_reference_and_merged_under_strict() -> None:
    for protocol, private in (("reference", True), ("strict", False)):
        names = DenseTwin("roberta", protocol, fraction=0.25).private["a"]
        assert any(group_of(name) == "bias" for name in names if not name.startswith("classifier")) is private
