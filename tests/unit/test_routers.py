"""What all kinds of router have in common."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.routing import ROWS, SETTINGS, SIZE, TASKS, made, rows
from twin_merging.errors import UserError
from twin_merging.io.files import read_json, sha256, write_json
from twin_merging.io.tensors import Checkpoint
from twin_merging.model.assemble import _router
from twin_merging.routing.kinds import KINDS, build_router, load_router
from twin_merging.routing.mlp import MLPRouter
from twin_merging.routing.options import OPTIONS, SEEDED
from twin_merging.routing.projection import ProjectionRouter
from twin_merging.routing.router import Router
from twin_merging.routing.training import make_router


@pytest.fixture(params=SETTINGS)
def router(request: pytest.FixtureRequest, features: Path, task_vectors: dict[str, Path], tmp_path: Path) -> Router:
    return made(request.param, features, tmp_path, task_vectors)


def test_every_kind_has_settings_here() -> None:
    assert list(SETTINGS) == list(OPTIONS)
    assert set(KINDS) - set(OPTIONS) == {"uniform", "oracle"}  # which hold nothing, and are no router's kind in a suite


def test_a_router_is_the_same_after_saving(router: Router, features: Path, tmp_path: Path) -> None:
    router.temperature, router.top_k = 0.5, 2
    router.save(tmp_path / "saved")
    loaded = load_router(tmp_path / "saved")
    x, _ = rows(features, "validation")
    assert type(loaded) is type(router)
    assert torch.equal(loaded(x), router(x))
    assert torch.equal(loaded.weights(x), router.weights(x))
    same = ("tasks", "size", "features", "temperature", "top_k")
    assert [getattr(loaded, key) for key in same] == [TASKS, SIZE, SETTINGS[router.kind]["features"], 0.5, 2]
    loaded.save(tmp_path / "again")
    for name in ("config.json", "model.safetensors"):
        assert sha256(tmp_path / "again" / name) == sha256(tmp_path / "saved" / name)


def test_a_method_gets_the_router_with_its_own_temperature_and_top_k(
    router: Router, features: Path, tmp_path: Path
) -> None:
    entry = {"temperature": 2.0, "top_k": 1}
    assembled = _router(tmp_path / "state", TASKS, SETTINGS[router.kind], entry)
    assert (assembled.temperature, assembled.top_k, assembled.kind) == (2.0, 1, router.kind)
    x, _ = rows(features, "validation")
    assert torch.equal(assembled(x), router(x))


def test_making_a_router_twice_gives_the_same_bytes(
    router: Router, features: Path, task_vectors: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "again").mkdir()
    made(router.kind, features, tmp_path / "again", task_vectors)
    for name in ("state", "metrics.json"):
        assert sha256(tmp_path / name) == sha256(tmp_path / "again" / name)


@pytest.mark.parametrize("kind", SETTINGS)
def test_the_seed_matters_for_the_kinds_that_draw_random_numbers_and_for_no_other(
    kind: str, features: Path, task_vectors: dict[str, Path], tmp_path: Path
) -> None:
    for seed in (0, 1):
        make_router(
            features=features,
            tasks=TASKS,
            settings=SETTINGS[kind],
            seed=seed,
            output=tmp_path / str(seed),
            metrics=tmp_path / "metrics.json",
            task_vectors=task_vectors,
        )
    assert (sha256(tmp_path / "0") != sha256(tmp_path / "1")) == (kind in SEEDED)


def test_weights_are_the_softmax_of_the_tempered_logits_of_which_top_k_are_kept(router: Router, features: Path) -> None:
    x, _ = rows(features, "validation")
    router.temperature = 3.0
    if isinstance(router, ProjectionRouter):  # which has a rule of its own, of which nothing is left
        router.threshold, router.at_most = 0.0, None
    wanted = (router(x).double() / 3).softmax(-1)
    torch.testing.assert_close(router.weights(x).double(), wanted, rtol=1e-5, atol=1e-6)
    router.top_k = 2
    kept = wanted.masked_fill(wanted == wanted.min(-1, keepdim=True).values, 0)
    found = router.weights(x).double()
    distinct = [len(set(row)) == 3 for row in wanted.tolist()]
    torch.testing.assert_close(found[distinct], (kept / kept.sum(-1, keepdim=True))[distinct], rtol=1e-5, atol=1e-6)
    assert (found.count_nonzero(-1) <= 2).all()


def test_weights_are_fp32_whatever_the_features_and_the_model_around_are_cast_to(
    router: Router, features: Path
) -> None:
    x = rows(features, "validation")[0].bfloat16()
    wanted = router.weights(x.float())
    around = nn.Sequential(router).bfloat16()
    assert around[0] is router
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = router.weights(x)
    assert found.dtype == torch.float32
    assert torch.equal(found, wanted)


def test_metrics_are_of_the_held_out_rows(router: Router, features: Path, tmp_path: Path) -> None:
    metrics = read_json(tmp_path / "metrics.json")
    x, y = rows(features, "validation")
    logits = router(x).detach()
    assert (metrics["kind"], metrics["features"]) == (router.kind, SETTINGS[router.kind]["features"])
    right = (logits.argmax(-1) == y).double().reshape(3, ROWS).mean(1).tolist()
    assert list(metrics["accuracy"].values()) == pytest.approx(right)
    assert metrics["held_out_accuracy"] == pytest.approx(sum(right) / 3)
    assert metrics["confusion"]["b"]["c"] == int(((logits.argmax(-1) == 2) & (y == 1)).sum())
    loss = float(nn.functional.cross_entropy(logits, y))
    assert metrics["held_out_loss"] == (pytest.approx(loss) if loss < float("inf") else None)
    confidence, routed = logits.softmax(-1).max(-1)
    bins = [(confidence > b / 15) & (confidence <= (b + 1) / 15) for b in range(15)]
    gaps = [abs(float(((routed == y).double() - confidence)[chosen].sum())) for chosen in bins]
    assert metrics["expected_calibration_error"] == pytest.approx(sum(gaps) / len(x), abs=1e-6)


def test_tensors_that_do_not_fit_are_said_in_one_line(router: Router, tmp_path: Path) -> None:
    state = dict(Checkpoint(tmp_path / "state"))
    settings, first = SETTINGS[router.kind], next(iter(state))
    with pytest.raises(UserError, match=f"the router: tensor '{first}' is missing; make the router again"):
        build_router(settings, TASKS, {name: tensor for name, tensor in state.items() if name != first})
    with pytest.raises(UserError, match=rf"tensor 'more' is not one of a {router.kind} router \("):
        build_router(settings, TASKS, {**state, "more": torch.zeros(1)})
    with pytest.raises(UserError, match=f"tensor '{first}' has shape "):
        build_router(settings, TASKS, {**state, first: torch.zeros(2, 2, 2, 2)})
    floating = next(name for name, tensor in state.items() if tensor.is_floating_point())
    with pytest.raises(UserError, match=f"tensor '{floating}' holds NaN or infinity"):
        build_router(settings, TASKS, {**state, floating: state[floating] * torch.nan})


@pytest.mark.parametrize("kind", ["mlp", "mahalanobis", "projection"])
def test_a_router_of_other_tasks_is_refused(
    kind: str, features: Path, task_vectors: dict[str, Path], tmp_path: Path
) -> None:
    made(kind, features, tmp_path, task_vectors)
    with pytest.raises(UserError, match=r"state: tensor '.*' has shape \(3, .*of 2 tasks needs \(2, "):
        build_router(SETTINGS[kind], TASKS[:2], Checkpoint(tmp_path / "state"))


def test_an_unknown_kind_on_disk_is_refused(tmp_path: Path) -> None:
    MLPRouter(TASKS, 4).save(tmp_path)
    config = read_json(tmp_path / "config.json")
    write_json(tmp_path / "config.json", {**config, "kind": "mpl"})
    with pytest.raises(UserError, match=r"unknown kind 'mpl' \(did you mean 'mlp'\?\); allowed: mahalanobis, mlp"):
        load_router(tmp_path)


class Fixed(Router):
    """Logits that are the features."""

    kind = "fixed"

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features


@pytest.mark.parametrize("temperature", [1e-30, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("top_k", [None, 1, 2, 3])
def test_a_logit_of_minus_infinity_is_a_weight_of_0(temperature: float, top_k: int | None) -> None:
    infinite = -torch.inf
    logits = torch.tensor([[infinite, -1e30, infinite], [infinite, 2.0, 2.0], [-1e3, infinite, 5.0]])
    weights = Fixed(TASKS, 3, temperature=temperature, top_k=top_k).weights(logits)
    assert not weights.isnan().any()
    assert (weights[logits == infinite] == 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(3))
    assert weights[0].tolist() == [0, 1, 0]
    assert weights[1].tolist() == ([0, 1, 0] if top_k == 1 else [0, 0.5, 0.5])
