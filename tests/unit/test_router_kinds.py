"""The routers mlp, mahalanobis and neighbours against obvious oracles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.covariance import ledoit_wolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.neighbors import KNeighborsClassifier

from tests.routing import ROWS, SETTINGS, SIZE, TASKS, made, random, rows
from twin_merging.errors import UserError
from twin_merging.io.files import read_json
from twin_merging.io.tensors import Checkpoint
from twin_merging.routing.fitting import fit_mahalanobis
from twin_merging.routing.kinds import build_router
from twin_merging.routing.neighbours import NeighboursRouter


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
