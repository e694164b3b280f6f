"""Every kind of router against an obvious oracle, and what all kinds have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.covariance import ledoit_wolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from twin_merging.errors import UserError
from twin_merging.io.files import read_json, sha256, write_json
from twin_merging.io.tensors import Checkpoint, save_tensors
from twin_merging.model.assemble import _router
from twin_merging.routing.fitting import fit_mahalanobis, read_directions, reads_input
from twin_merging.routing.kinds import KINDS, build_router, load_router
from twin_merging.routing.mlp import MLPRouter
from twin_merging.routing.neighbours import NeighboursRouter
from twin_merging.routing.options import SEEDED
from twin_merging.routing.projection import ProjectionRouter
from twin_merging.routing.router import Router
from twin_merging.routing.training import make_router

TASKS = ["a", "b", "c"]
SIZE, ROWS, LAYER = 8, 33, 1
MLP = {"epochs": 3, "batch_size": 16, "learning_rate": 5e-3, "weight_decay": 0.01, "dropout": 0.5}
SETTINGS: dict[str, dict[str, Any]] = {
    "mlp": {"kind": "mlp", "features": "last", "hidden_size": 5, **MLP},
    "mahalanobis": {"kind": "mahalanobis", "features": {"layers": [0, 2]}},
    "neighbours": {"kind": "neighbours", "features": "last", "neighbours": 4, "stored": 20},
    "projection": {"kind": "projection", "features": {"layer": LAYER}, "rank": 3, "layer": LAYER},
}


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features of three tasks around three means, with unequal variances."""
    path = tmp_path_factory.mktemp("features") / "features.safetensors"
    spread = torch.linspace(0.2, 2, SIZE)
    tensors = {}
    for number, (mean, task) in enumerate(zip(random(3, SIZE), TASKS, strict=True)):
        for split, seed in (("train", 10), ("validation", 20)):
            tensors[f"{task}/{split}"] = mean + spread * random(ROWS, SIZE, seed=seed + number)
    save_tensors(path, tensors)
    return path


def attention(layer: int) -> dict[str, tuple[int, int]]:
    names = (f"encoder.layer.{layer}.attention.self.{part}.weight" for part in ("query", "key", "value"))
    return dict.fromkeys(names, (SIZE, SIZE))


@pytest.fixture(scope="module")
def exclusives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Exclusive files of rank 2 of two layers' attention and another matrix."""
    folder = tmp_path_factory.mktemp("exclusives")
    shapes = attention(0) | attention(LAYER) | {f"encoder.layer.{LAYER}.output.dense.weight": (SIZE, SIZE)}
    for number, task in enumerate(TASKS):
        matrices = {name: random(*shape, seed=50 * number + at) for at, (name, shape) in enumerate(shapes.items())}
        write_exclusive(folder / f"{task}.safetensors", matrices, 2)
    return {task: folder / f"{task}.safetensors" for task in TASKS}


def write_exclusive(path: Path, matrices: dict[str, torch.Tensor], rank: int) -> None:
    tensors: dict[str, torch.Tensor] = {}
    for name, matrix in matrices.items():
        U, S, V = torch.linalg.svd(matrix, full_matrices=False)
        tensors |= {f"{name}.U": U[:, :rank], f"{name}.S": S[:rank], f"{name}.V": V[:rank]}
        tensors[f"{name}.norm2"] = matrix.double().square().sum().reshape(1)
    save_tensors(path, tensors)


def rows(features: Path, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    stored = Checkpoint(features)
    return torch.cat([stored[f"{task}/{split}"] for task in TASKS]), torch.arange(3).repeat_interleave(ROWS)


def made(kind: str, features: Path, folder: Path, exclusives: dict[str, Path], **options: Any) -> Router:
    settings = {**SETTINGS[kind], **options}
    make_router(
        features=features,
        tasks=TASKS,
        settings=settings,
        seed=0,
        output=folder / "state",
        metrics=folder / "metrics.json",
        exclusives=exclusives,
    )
    return build_router(settings, TASKS, Checkpoint(folder / "state"))


@pytest.fixture(params=SETTINGS)
def router(request: pytest.FixtureRequest, features: Path, exclusives: dict[str, Path], tmp_path: Path) -> Router:
    return made(request.param, features, tmp_path, exclusives)


# -- what all kinds have in common


def test_every_kind_has_settings_here() -> None:
    assert list(SETTINGS) == list(KINDS)


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
    router: Router, features: Path, exclusives: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "again").mkdir()
    made(router.kind, features, tmp_path / "again", exclusives)
    for name in ("state", "metrics.json"):
        assert sha256(tmp_path / name) == sha256(tmp_path / "again" / name)


@pytest.mark.parametrize("kind", SETTINGS)
def test_the_seed_matters_for_the_kinds_that_draw_random_numbers_and_for_no_other(
    kind: str, features: Path, exclusives: dict[str, Path], tmp_path: Path
) -> None:
    for seed in (0, 1):
        make_router(
            features=features,
            tasks=TASKS,
            settings=SETTINGS[kind],
            seed=seed,
            output=tmp_path / str(seed),
            metrics=tmp_path / "metrics.json",
            exclusives=exclusives,
        )
    assert (sha256(tmp_path / "0") != sha256(tmp_path / "1")) == (kind in SEEDED)


def test_weights_are_the_softmax_of_the_tempered_logits_of_which_top_k_are_kept(router: Router, features: Path) -> None:
    x, _ = rows(features, "validation")
    router.temperature = 3.0
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
    kind: str, features: Path, exclusives: dict[str, Path], tmp_path: Path
) -> None:
    made(kind, features, tmp_path, exclusives)
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


# -- mlp


@pytest.mark.parametrize(("hidden_size", "width"), [(None, 2 * SIZE), (5, 5)])
def test_an_mlp_is_as_wide_as_is_asked_and_twice_the_feature_otherwise(
    features: Path, tmp_path: Path, hidden_size: int | None, width: int
) -> None:
    made("mlp", features, tmp_path, {}, hidden_size=hidden_size)
    shapes = {name: tuple(tensor.shape) for name, tensor in Checkpoint(tmp_path / "state").items()}
    assert shapes["fc1.weight"] == (width, SIZE)
    assert shapes["fc3.weight"] == (width, width)
    assert shapes["fc4.weight"] == (3, width)
    assert shapes["bn1.running_var"] == shapes["bn3.bias"] == (width,)


# -- mahalanobis


def test_mahalanobis_weights_are_those_of_linear_discriminant_analysis(features: Path, tmp_path: Path) -> None:
    x, y = rows(features, "train")
    means = torch.stack([x[y == task].double().mean(0) for task in range(3)])
    _, shrinkage = ledoit_wolf((x.double() - means[y]).numpy(), assume_centered=True)
    assert 0 < shrinkage < 1
    oracle = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(x.double().numpy(), y.numpy())
    held_out, _ = rows(features, "validation")
    found = made("mahalanobis", features, tmp_path, {}).weights(held_out)
    wanted = oracle.predict_proba(held_out.double().numpy())
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-4, atol=1e-6)
    assert read_json(tmp_path / "metrics.json")["shrinkage"] == pytest.approx(shrinkage)


def test_mahalanobis_logits_are_half_of_minus_the_squared_distance(features: Path, tmp_path: Path) -> None:
    x, y = rows(features, "train")
    x = x + 100  # far from the origin
    state, _ = fit_mahalanobis(x, y, 3)
    router = build_router(SETTINGS["mahalanobis"], TASKS, state)
    means = torch.stack([x[y == task].double().mean(0) for task in range(3)])
    covariance = torch.from_numpy(ledoit_wolf((x.double() - means[y]).numpy(), assume_centered=True)[0])
    apart = x.double()[:, None] - means
    wanted = -(apart * torch.linalg.solve(covariance, apart.mT).mT).sum(-1) / 2
    torch.testing.assert_close(router(x).double(), wanted, rtol=1e-4, atol=1e-3)


def test_one_row_a_task_has_no_covariance() -> None:
    with pytest.raises(UserError, match=r"the covariance of 3 train rows is singular; raise limits\.router"):
        fit_mahalanobis(random(3, SIZE), torch.arange(3), 3)


# -- neighbours


def test_neighbours_weights_are_shares_among_the_nearest_of_the_first_rows(features: Path, tmp_path: Path) -> None:
    router = made("neighbours", features, tmp_path, {})
    x, y = rows(features, "train")
    first = (torch.arange(len(x)) % ROWS) < 20
    oracle = KNeighborsClassifier(4, algorithm="brute").fit(x[first].numpy(), y[first].numpy())
    held_out, _ = rows(features, "validation")
    wanted = oracle.predict_proba(held_out.numpy())
    assert len(np.unique(wanted)) > 3
    np.testing.assert_allclose(router.weights(held_out).numpy(), wanted, rtol=1e-6, atol=1e-7)
    assert read_json(tmp_path / "metrics.json")["train_rows"] == 60
    assert read_json(tmp_path / "metrics.json")["held_out_loss"] is None


def test_of_features_at_one_distance_the_first_stored_count() -> None:
    router = NeighboursRouter(TASKS, 1, rows=6, neighbours=2)
    router.stored = torch.tensor([[1.0], [5.0], [1.0], [-1.0], [1.0], [0.5]])
    router.owner = torch.tensor([0, 0, 1, 1, 2, 2])
    assert router.weights(torch.zeros(1, 1)).tolist() == [[0.5, 0, 0.5]]
    alone = router.weights(torch.full((1, 1), 0.1))
    assert torch.equal(router.weights(torch.full((40, 1), 0.1)), alone.repeat(40, 1))


def test_fewer_stored_features_than_neighbours_all_vote() -> None:
    router = NeighboursRouter(TASKS, 2, rows=4, neighbours=10)
    router.owner = torch.tensor([0, 1, 2, 2])
    wanted = torch.tensor([[0.25, 0.25, 0.5]])
    torch.testing.assert_close(router.weights(random(1, 2)), wanted)
    torch.testing.assert_close(router(random(1, 2)), wanted.log())


# -- projection


def dense(path: Path, name: str) -> torch.Tensor:
    stored = Checkpoint(path)
    U, S, V = (stored[f"{name}.{part}"].double() for part in ("U", "S", "V"))
    return U @ torch.diag(S) @ V


def test_projection_residuals_are_those_of_explicit_projections(
    features: Path, exclusives: dict[str, Path], tmp_path: Path
) -> None:
    router = made("projection", features, tmp_path, exclusives)
    x, _ = rows(features, "validation")
    points = x.double() / x.double().norm(dim=1, keepdim=True)
    wanted = []
    for path in exclusives.values():
        stacked = torch.cat([dense(path, name) for name in attention(LAYER)])
        V = np.linalg.svd(stacked.numpy())[2][:3].T
        wanted.append(np.linalg.norm(points.numpy() - points.numpy() @ V @ V.T, axis=1))
    assert isinstance(router, ProjectionRouter)
    found = -router(x) * router.scale
    np.testing.assert_allclose(found.numpy(), np.stack(wanted, 1), rtol=1e-5, atol=1e-6)


def test_the_scale_has_the_least_loss_on_held_out_rows(
    features: Path, exclusives: dict[str, Path], tmp_path: Path
) -> None:
    router = made("projection", features, tmp_path, exclusives)
    assert isinstance(router, ProjectionRouter)
    x, y = rows(features, "validation")
    chosen = float(router.scale)
    losses = {}
    for factor in (0.8, 1.0, 1.25):
        router.scale.fill_(chosen * factor)
        losses[factor] = float(nn.functional.cross_entropy(router(x).double(), y))
    assert 1e-3 < chosen < 9
    assert min(losses, key=losses.__getitem__) == 1.0, losses
    assert read_json(tmp_path / "metrics.json")["scale"] == pytest.approx(chosen)
    assert read_json(tmp_path / "metrics.json")["train_rows"] == 0


def test_a_feature_in_a_tasks_directions_is_routed_to_it(exclusives: dict[str, Path], tmp_path: Path) -> None:
    """Features of each task that lie in what its exclusive reads: the scale gets small, the routing is sure."""
    tensors = {}
    for number, task in enumerate(TASKS):
        V = read_directions(exclusives[task], LAYER, 3, SIZE).float()
        for split in ("train", "validation"):
            tensors[f"{task}/{split}"] = random(ROWS, 3, seed=number) @ V
    save_tensors(tmp_path / "features", tensors)
    made("projection", tmp_path / "features", tmp_path, exclusives)
    metrics = read_json(tmp_path / "metrics.json")
    assert metrics["held_out_accuracy"] == 1
    assert metrics["held_out_loss"] < 0.1


def test_the_left_factors_of_a_conv1d_read_its_input(tmp_path: Path) -> None:
    """Conv1D stores (in, out): x W, so its columns' space, not its rows', is what it reads."""
    matrix = random(SIZE, 3 * SIZE)
    write_exclusive(tmp_path / "gpt", {"h.1.attn.c_attn.weight": matrix}, 4)
    found = read_directions(tmp_path / "gpt", 1, 2, SIZE)
    wanted = torch.linalg.svd(matrix.double()).U[:, :2]
    torch.testing.assert_close(found.T @ found, wanted @ wanted.T, rtol=1e-5, atol=1e-5)


def test_an_exclusive_of_fewer_directions_leaves_the_others_0(tmp_path: Path) -> None:
    one, zero = torch.outer(random(SIZE), random(SIZE, seed=1)), torch.zeros(SIZE, SIZE)
    for name, matrix in (("one", one), ("zero", zero)):
        write_exclusive(tmp_path / name, dict.fromkeys(attention(LAYER), matrix), 3)
    found = read_directions(tmp_path / "one", LAYER, 3, SIZE)
    direction = nn.functional.normalize(random(1, SIZE, seed=1).double())
    torch.testing.assert_close(found.T @ found, direction.T @ direction, rtol=1e-5, atol=1e-6)
    assert len(read_directions(tmp_path / "zero", LAYER, 3, SIZE)) == 0


def test_matrices_that_read_a_layers_input_are_known_by_name() -> None:
    names = {
        "encoder.layer.1.attention.self.query.weight": True,
        "layers.1.self_attn.v_proj.weight": True,
        "h.1.attn.c_attn.weight": True,
        "encoder.layer.11.attention.self.query.weight": False,
        "encoder.layer.0.attention.self.query.weight": False,
        "layers.1.self_attn.o_proj.weight": False,
        "encoder.layer.1.output.dense.weight": False,
        "embeddings.word_embeddings.weight": False,
    }
    assert {name: reads_input(name, 1) for name in names} == names


def test_a_task_whose_exclusive_leaves_the_layer_alone_has_no_directions(
    features: Path, exclusives: dict[str, Path], tmp_path: Path
) -> None:
    write_exclusive(tmp_path / "b", {f"encoder.layer.{LAYER}.output.dense.weight": random(SIZE, SIZE)}, 2)
    router = made("projection", features, tmp_path, {**exclusives, "b": tmp_path / "b"})
    assert isinstance(router, ProjectionRouter)
    assert [bool(V.any()) for V in router.directions] == [True, False, True]
    torch.testing.assert_close(-router(random(5, SIZE))[:, 1] * router.scale, torch.ones(5))


def test_exclusives_that_all_leave_the_layer_alone_are_said_in_one_line(
    features: Path, exclusives: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(
        UserError, match=r"c\.safetensors: every query, key and value matrix of layer 2 is zero or missing, "
    ):
        made("projection", features, tmp_path, exclusives, layer=2)
    assert not (tmp_path / "state").exists()


def test_an_exclusive_of_another_width_is_said_in_one_line(exclusives: dict[str, Path]) -> None:
    with pytest.raises(UserError, match=r"key\.weight' reads 8 numbers, features have 9; run route again"):
        read_directions(exclusives["a"], LAYER, 3, SIZE + 1)
