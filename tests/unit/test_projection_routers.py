"""The router projection against explicit projections."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.routing import LAYER, ROWS, SIZE, TASKS, attention, made, random, rows, write_exclusive
from twin_merging.errors import UserError
from twin_merging.io.files import read_json
from twin_merging.io.tensors import Checkpoint, save_tensors
from twin_merging.routing.fitting import read_directions, reads_input
from twin_merging.routing.projection import ProjectionRouter


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
