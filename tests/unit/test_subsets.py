"""Models of some of a suite's tasks: merged without the others, of which they may have the heads."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.dense_twin import LABELS, DenseLanguageModel, DenseTwin, alone, mixed_batch
from tests.tiny import merged
from twin_merging import TwinModel, export
from twin_merging.api.answer import answer_text
from twin_merging.api.export import single_model
from twin_merging.checkpoints.experts import Expert
from twin_merging.checkpoints.groups import PROTOCOLS, group_of
from twin_merging.errors import UserError
from twin_merging.io.files import read_json, sha256
from twin_merging.io.tensors import WEIGHTS, Checkpoint
from twin_merging.io.weights import open_directory
from twin_merging.model.classifier import TwinForSequenceClassification
from twin_merging.model.language_model import TwinForCausalLM
from twin_merging.prediction.answers import heads_of_rows
from twin_merging.routing.mlp import MLPRouter

MERGED, UNSEEN = ["a", "b"], "c"


# -- merging


@pytest.mark.parametrize("protocol", ["reference", "strict"])
@pytest.mark.parametrize("method", ["task_arithmetic", "tsv_m", "emr"])
def test_a_task_that_is_left_out_changes_no_byte_of_what_is_merged(
    fetched: Path, tmp_path: Path, method: str, protocol: str
) -> None:
    without, of_one = (
        merged(fetched, tmp_path / name, method, {}, protocol, tasks=["one"], **more)
        for name, more in (("without", {"left_out": ["two"]}), ("alone", {}))
    )
    for name in (WEIGHTS, "private/one.safetensors", *(["unified.safetensors"] if method == "emr" else [])):
        assert sha256(without / name) == sha256(of_one / name)
    base = open_directory(fetched / "base")
    head = Checkpoint(without / "private/two.safetensors")
    assert set(head) == set(Expert(fetched / "experts/two", base).head)
    told = read_json(without / "merge.json")
    assert (told["tasks"], told["left_out"]) == ({"one": {"labels": 2}}, {"two": {"labels": 3}})
    assert "left_out" not in read_json(of_one / "merge.json")


def test_a_static_model_answers_a_left_out_task_by_the_bases_biases_and_its_own_head(
    fetched: Path, tmp_path: Path
) -> None:
    output = merged(fetched, tmp_path / "model", "task_arithmetic", {}, "reference", tasks=["one"], left_out=["two"])
    model: Any = TwinModel.from_pretrained(output)
    assert (model.tasks, model.left_out, model.known) == (["one"], ["two"], ["one", "two"])
    batch, _, _ = mixed_batch()
    expert = Expert(fetched / "experts/two", open_directory(fetched / "base"))
    single = TwinForSequenceClassification(
        copy.deepcopy(model.body), {"two": 3}, {"two": expert.private(PROTOCOLS["strict"])}
    )
    with torch.no_grad():
        found, wanted = (own(**batch, tasks=["two"] * 6).logits for own in (model, single))
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    assert answer_text(output, "w1 w2", task="two").task == "two"
    with pytest.raises(UserError, match=r"unknown task 'three'.*allowed: one, two"):
        answer_text(output, "w1", task="three")
    with pytest.raises(UserError, match="name the text's task: one, two"):
        answer_text(output, "w1")


# -- dynamic models


def is_head(dense: DenseTwin, name: str) -> bool:
    return name not in dict(dense.body.named_parameters()) or group_of(name) == "head"


def two_of_three(dense: DenseTwin, **options: Any) -> TwinForSequenceClassification:
    """A model of `a` and `b` that has the head of `c`."""
    head = {name: value for name, value in dense.private[UNSEEN].items() if is_head(dense, name)}
    private = {**{task: dense.private[task] for task in MERGED}, UNSEEN: head}
    exclusive = {task: dense.exclusive[task] for task in MERGED}
    return TwinForSequenceClassification(
        copy.deepcopy(dense.body), LABELS, private, exclusive, left_out=[UNSEEN], **options
    )


def router(features: Any = "last") -> MLPRouter:
    torch.manual_seed(5)
    return MLPRouter(MERGED, 16, features=features).eval()


@torch.no_grad()
def wanted_of(dense: DenseTwin, weights: torch.Tensor, task: str, row: dict[str, Any]) -> torch.Tensor:
    """Logits of a row by explicit merging of two tasks; what is private of an unseen task is its head alone."""
    whole = copy.deepcopy(dense)
    if task == UNSEEN:
        own = dict(dense.body.named_parameters())
        private = dense.private[task]
        whole.private[task] = {name: private[name] if is_head(dense, name) else own[name] for name in private}
    return whole.explicit(torch.cat([weights, torch.zeros(1)]), task, **row)


@pytest.mark.parametrize("protocol", ["reference", "strict"])
@pytest.mark.parametrize("model_type", ["roberta", "bert", "llama"])
def test_a_mixed_batch_with_rows_of_an_unseen_task_is_answered_as_by_explicit_merging(
    model_type: str, protocol: str
) -> None:
    dense = DenseTwin(model_type, protocol, fraction=0.25)
    batch, three, tasks = mixed_batch()
    weights = three[:, :2].softmax(-1)
    with torch.no_grad():
        answer = two_of_three(dense)(**batch, weights=weights, tasks=tasks)
    assert UNSEEN in tasks
    for row, task in enumerate(tasks):
        wanted = wanted_of(dense, weights[row], task, alone(batch, row))
        torch.testing.assert_close(answer.logits[row, : LABELS[task]], wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("onepass", [False, True])
def test_rows_without_a_name_are_routed_beside_rows_with_one(onepass: bool) -> None:
    dense = DenseTwin("roberta", "strict", fraction=0.25)
    model = two_of_three(dense, router=router("embedding" if onepass else "last"), onepass=onepass)
    batch, _, _ = mixed_batch()
    with torch.no_grad():
        weights = model.route(**batch)
        named = [UNSEEN if row % 2 else MERGED[index] for row, index in enumerate(weights.argmax(-1).tolist())]
        some = [UNSEEN if row % 2 else None for row in range(6)]
        found, wanted = (model(**batch, tasks=tasks) for tasks in (some, named))
    assert torch.equal(found.logits, wanted.logits)
    assert found.weights.shape == (6, 2)
    with pytest.raises(ValueError, match=r"unknown task 'None'.*allowed: a, b, c"):
        two_of_three(dense)(**batch, tasks=some)


def test_only_rows_of_unseen_tasks_are_told_whose_head_answers_where_the_router_chooses() -> None:
    class Row:
        def __init__(self, task: str):
            self.task = task

    model: Any = two_of_three(DenseTwin("roberta", "strict", fraction=0.25))
    rows: Any = [Row("a"), Row("c"), Row("b")]
    assert heads_of_rows(model, rows, "routed") == [None, "c", None]
    assert heads_of_rows(model, rows[::2], "routed") is None
    assert heads_of_rows(model, rows, "oracle") == ["a", "c", "b"]


@pytest.mark.parametrize("protocol", ["reference", "strict"])
def test_a_saved_model_is_the_same_and_keeps_a_head_alone_of_an_unseen_task(tmp_path: Path, protocol: str) -> None:
    dense = DenseTwin("roberta", protocol, fraction=0.25)
    model = two_of_three(dense, router=router())
    model.save_pretrained(tmp_path / "model")
    assert list(read_json(tmp_path / "model/merge.json")["left_out"]) == [UNSEEN]
    own = Checkpoint(tmp_path / "model/private/c.safetensors")
    assert set(own) == {name for name in dense.private[UNSEEN] if name.startswith("classifier")}
    assert sorted(path.name for path in (tmp_path / "model/exclusive").iterdir()) == MERGED
    batch, _, tasks = mixed_batch()
    with torch.no_grad():
        loaded, before = (one(**batch, tasks=tasks) for one in (TwinModel.from_pretrained(tmp_path / "model"), model))
    assert torch.equal(loaded.logits, before.logits)


def test_a_mixture_is_exported_with_an_unseen_tasks_head(tmp_path: Path) -> None:
    dense = DenseTwin("roberta", "reference", fraction=0.25)
    model = two_of_three(dense, router=router())
    batch, _, _ = mixed_batch()
    weights = {"a": 0.75, "b": 0.25}
    with torch.no_grad():
        wanted = model(**batch, weights=torch.tensor([[0.75, 0.25]] * 6), tasks=[UNSEEN] * 6).logits[:, :1]
        found = single_model(model, weights, UNSEEN)(**batch).logits
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(UserError, match=r"unknown task 'c'.*allowed: a, b"):
        export(tmp_path / "model", {"c": 1.0}, tmp_path / "out")
    export(tmp_path / "model", weights, tmp_path / "out", task=UNSEEN)
    assert read_json(tmp_path / "out/config.json")["architectures"] == ["RobertaForSequenceClassification"]


def test_a_language_model_answers_an_unseen_task_as_any_other() -> None:
    dense = DenseLanguageModel("llama", fraction=0.25)
    exclusive = {task: dense.exclusive[task] for task in MERGED}
    model = TwinForCausalLM(copy.deepcopy(dense.shared), MERGED, None, exclusive, router(), left_out=[UNSEEN])
    batch, _, _ = mixed_batch(left=True)
    with torch.no_grad():
        found, wanted = (model(**batch, tasks=tasks).logits for tasks in ([UNSEEN, *"ababc"], None))
    assert torch.equal(found, wanted)
    with torch.no_grad():
        own = dense.merged(torch.cat([model.route(**batch)[0], torch.zeros(1)]))(**alone(batch, 0)).logits[0]
    torch.testing.assert_close(found[0, batch["attention_mask"][0].bool()], own, rtol=1e-4, atol=1e-4)
