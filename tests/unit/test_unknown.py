"""The verdict `unknown`: rows that a router knows less than a share of held-out rows get the shared expert alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from tests.dense_twin import LABELS, DenseLanguageModel, DenseTwin, router_of
from tests.predicting import answer, make
from tests.routing import SETTINGS, SIZE, TASKS, made, random, rows
from tests.tiny import tokenizer
from tests.tiny_decoders import tokenizer as decoders_tokenizer
from twin_merging.errors import UserError
from twin_merging.io.files import read_json, write_json
from twin_merging.io.tensors import Checkpoint
from twin_merging.io.validation import validate
from twin_merging.model.assemble import _router
from twin_merging.model.twin import TwinModel
from twin_merging.reporting.routing import routed_rows, router_scores
from twin_merging.routing.kinds import load_router
from twin_merging.routing.mahalanobis import MahalanobisRouter
from twin_merging.routing.options import RouterOptions
from twin_merging.routing.router import Router

ENTRY = {"temperature": 1.0, "top_k": None}


@pytest.mark.parametrize("kind", SETTINGS)
def test_the_threshold_leaves_that_share_of_held_out_rows_below(
    kind: str, features: Path, task_vectors: dict[str, Path], tmp_path: Path
) -> None:
    made(kind, features, tmp_path, task_vectors, unknown=0.1)
    found = read_json(tmp_path / "metrics.json")["unknown"]
    router = _router(tmp_path / "state", TASKS, {**SETTINGS[kind], "unknown": 0.1}, ENTRY)
    assert router.below == found["threshold"]
    x, y = rows(features, "validation")
    with torch.no_grad():
        routed = router.routed(x)
    unknown = routed.unknown
    assert int(unknown.sum()) <= int(0.1 * len(x))
    if kind != "neighbours":  # whose shares of votes are equal for many rows
        assert int(unknown.sum()) == int(0.1 * len(x))
    assert found["held_out"] == {task: float(unknown[y == t].double().mean()) for t, task in enumerate(TASKS)}
    router.save(tmp_path / "router")
    again = load_router(tmp_path / "router")
    assert again.below == router.below
    with torch.no_grad():
        assert torch.equal(again.weights(x), routed.weights)
    plain = _router(tmp_path / "state", TASKS, SETTINGS[kind], ENTRY)
    with torch.no_grad():
        weights = plain.weights(x)
    assert plain.below is None
    assert torch.equal(weights[~unknown], routed.weights[~unknown])
    assert torch.equal(weights.argmax(-1), routed.tasks)  # the head is that of the logits, also of an unknown row
    assert not routed.weights[unknown].any()
    plain.save(tmp_path / "plain")
    assert "unknown_below" not in read_json(tmp_path / "plain/config.json")


def test_a_distance_is_relative_to_that_from_all_rows() -> None:
    """Against both distances written out, with the covariance of all rows inverted."""
    router = MahalanobisRouter(TASKS, SIZE)
    router.means.copy_(3 * random(3, SIZE, seed=1))
    root = torch.linalg.qr(random(SIZE, SIZE, seed=2))[0] * (1 + torch.arange(SIZE))
    router.whitening.copy_(root)
    z = (4 * random(20, SIZE, seed=3)).double()
    P, means = (root @ root.T).double(), router.means.double()
    centre = means.mean(0)
    whole = torch.linalg.inv(torch.linalg.inv(P) + (means - centre).T @ (means - centre) / 3)
    nearest = torch.stack([((z - m) @ P * (z - m)).sum(-1) for m in means]).amin(0)
    wanted = ((z - centre) @ whole * (z - centre)).sum(-1) - nearest
    torch.testing.assert_close(router.known(router(z.float())).double(), wanted, rtol=1e-3, atol=1e-2)


def test_a_row_far_from_all_tasks_is_unknown_and_one_of_a_task_is_not(features: Path, tmp_path: Path) -> None:
    made("mahalanobis", features, tmp_path, {}, unknown=0.05)
    router = _router(tmp_path / "state", TASKS, {**SETTINGS["mahalanobis"], "unknown": 0.05}, ENTRY)
    means: Any = router.means
    assert router.routed(means).unknown.tolist() == [False] * 3
    away = means.mean(0) + 50 * (means[0] - means.mean(0))
    assert router.routed(away[None]).unknown.tolist() == [True]


def test_a_file_without_a_threshold_is_said_in_one_line(features: Path, tmp_path: Path) -> None:
    made("mahalanobis", features, tmp_path, {})
    assert "unknown" not in read_json(tmp_path / "metrics.json")
    assert "unknown_below" not in Checkpoint(tmp_path / "state").metadata
    with pytest.raises(UserError, match=r"state: no unknown_below, which router\.unknown needs; make the router again"):
        _router(tmp_path / "state", TASKS, {**SETTINGS["mahalanobis"], "unknown": 0.05}, ENTRY)


def test_it_is_a_share_and_in_the_settings_only_where_it_is_given() -> None:
    def settings(**given: Any) -> dict[str, Any]:
        return validate(RouterOptions, given).settings()

    assert "unknown" not in settings()
    assert settings(unknown=0.01) == {**settings(), "unknown": 0.01}
    hub = {"repo": "a/b"}
    assert settings(hub=hub, unknown=0.01) == {**settings(hub=hub), "unknown": 0.01}
    assert validate(RouterOptions, {"unknown": 0.01}).with_own({"kind": "mahalanobis"}).settings()["unknown"] == 0.01
    for wrong in (0, 1, -0.1, "calibrate", True):
        with pytest.raises(ValueError, match=r"^unknown: "):
            settings(unknown=wrong)


# -- models


def with_half_unknown(router: Router, model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Give a model's router a threshold that half of a batch is below; the logits of the batch."""
    logits: list[torch.Tensor] = []
    hook = router.register_forward_hook(lambda _, __, found: logits.append(found))
    model.route(**batch)
    hook.remove()
    known = router.known(logits[0])
    router.below = float(known.sort().values[len(known) // 2])
    return logits[0]


@pytest.mark.parametrize("onepass", [False, True])
def test_an_unknown_row_is_answered_by_the_shared_expert_with_the_routed_tasks_head(
    onepass: bool, tmp_path: Path
) -> None:
    dense = DenseTwin("roberta", "reference", 0.5)
    router = router_of(16, features={"layer": 1} if onepass else "last")
    model: Any = dense.twin(router, onepass=onepass)
    texts = ["w1 w2 w3", "w4", "w5 w6", "w7 w8 w9 w10", "w11 w12", "w13"]
    batch = dict(tokenizer()(texts, return_tensors="pt", padding=True))
    logits = with_half_unknown(router, model, batch)
    model.save_pretrained(tmp_path / "model")
    for own in (model, TwinModel.from_pretrained(tmp_path / "model")):
        with torch.no_grad():
            output = own(**batch)
        unknown = (output.weights == 0).all(-1)
        assert unknown.tolist().count(True) == len(texts) // 2
        assert torch.equal(output.routed, logits.argmax(-1))
        for row, number in enumerate(output.routed.tolist()):
            task = list(LABELS)[number]
            weights = torch.zeros(3) if unknown[row] else logits[row].softmax(-1)
            one = {name: value[row : row + 1] for name, value in batch.items()}
            if not onepass:
                wanted = dense.explicit(weights.detach(), task, **one)
                torch.testing.assert_close(output.logits[row, : len(wanted)], wanted, rtol=1e-4, atol=1e-4)
        named = own(**batch, tasks=["a"] * len(texts))
        assert torch.equal(named.weights, output.weights)


def test_a_language_model_answers_and_writes_an_unknown_row_as_its_shared_expert_does() -> None:
    dense = DenseLanguageModel("llama", 0.5)
    router = router_of(16)
    model: Any = dense.twin(router)
    texts = ["w1 w2", "w4 w5", "w6 w7", "w9 w3"]
    batch = {
        key: value for key, value in decoders_tokenizer()(texts, return_tensors="pt").items() if key != "token_type_ids"
    }
    with_half_unknown(router, model, batch)
    with torch.no_grad():
        output = model(**batch)
    unknown = (output.weights == 0).all(-1)
    assert unknown.tolist().count(True) == 2
    with torch.no_grad():
        shared = dense.shared(**batch).logits
    torch.testing.assert_close(output.logits[unknown], shared[unknown], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(output.logits[~unknown], shared[~unknown], atol=1e-3)
    told = {"max_new_tokens": 3, "do_sample": False, "pad_token_id": 1}
    assert torch.equal(model.generate(**batch, **told)[unknown], dense.shared.generate(**batch, **told)[unknown])


@pytest.mark.parametrize("family", ["encoder", "decoder"])
def test_predictions_say_where_a_row_is_routed_and_whether_it_is_unknown(family: str, tmp_path: Path) -> None:
    make(family, tmp_path)
    answer(family, tmp_path, "plain.parquet")
    plain: Any = pd.read_parquet(tmp_path / "plain.parquet")
    assert not {"routed", "unknown"} & set(plain)
    config = read_json(tmp_path / "model/router/config.json")
    router = load_router(tmp_path / "model/router")
    model: Any = TwinModel.from_pretrained(tmp_path / "model")
    seen: list[float] = []
    own = type(router).known
    model.router.below = -1e9
    with pytest.MonkeyPatch.context() as patched:

        def known(self: Router, logits: torch.Tensor) -> torch.Tensor:
            seen.extend(own(self, logits).tolist())
            return own(self, logits)

        patched.setattr(type(router), "known", known)
        write_json(tmp_path / "model/router/config.json", {**config, "unknown_below": -1e9})
        answer(family, tmp_path, "all.parquet")
    below = sorted(seen)[len(seen) // 3]
    write_json(tmp_path / "model/router/config.json", {**config, "unknown_below": below})
    answer(family, tmp_path, "found.parquet")
    found: Any = pd.read_parquet(tmp_path / "found.parquet")
    assert found["unknown"].sum() == len(seen) // 3
    chosen = np.stack(plain["weights"].to_list()).argmax(1)
    assert found["routed"].tolist() == ["abc"[number] for number in chosen]
    weights, before = np.stack(found["weights"].to_list()), np.stack(plain["weights"].to_list())
    assert np.array_equal(weights, np.where(found["unknown"].to_numpy()[:, None], 0.0, before))
    write_json(tmp_path / "metrics.json", {"accuracy": dict.fromkeys("abc", 1.0), "confusion": {}})
    files, metrics = {"twin": tmp_path / "found.parquet"}, {"twin": tmp_path / "metrics.json"}
    table: Any = router_scores(files, metrics, list("abc")).set_index("measure")
    shares = [100 * found.loc[found["task"] == task, "unknown"].mean() for task in "abc"]
    assert table.loc["test rows of no task", [*"abc", "avg"]].tolist() == pytest.approx([*shares, np.mean(shares)])
    before_table: Any = router_scores({"twin": tmp_path / "plain.parquet"}, metrics, list("abc")).set_index("measure")
    assert table.loc["test accuracy"].tolist() == before_table.loc["test accuracy"].tolist()
    assert "test rows of no task" not in before_table.index
    write_json(tmp_path / "metrics.json", {"confusion": {task: dict.fromkeys("abc", 0) for task in "abc"}})
    counted = [
        routed_rows({"twin": tmp_path / name}, metrics, list("abc")) for name in ("plain.parquet", "found.parquet")
    ]
    assert counted[0].equals(counted[1])
