"""The router projection against explicit projections on the right singular vectors of task vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.routing import LAYER, ROWS, SIZE, TASKS, attention, made, random, rows, write_lora, write_vector
from twin_merging.errors import UserError
from twin_merging.io.files import read_json
from twin_merging.io.tensors import Checkpoint, save_tensors
from twin_merging.routing.directions import read_directions, reads_input
from twin_merging.routing.projection import ProjectionRouter, keep_above, residuals


def right_vectors(path: Path, rank: int) -> np.ndarray:
    """(d, rank), of the stacked query, key and value matrices."""
    stored = Checkpoint(path)
    stacked = torch.cat([stored[name].double() for name in attention(LAYER)])
    found: np.ndarray = np.linalg.svd(stacked.numpy())[2][:rank].T
    return found


@pytest.mark.parametrize(("rank", "wanted"), [(3, 3), (None, SIZE // len(TASKS))])
def test_logits_are_z_scores_of_explicit_residuals(
    rank: int | None, wanted: int, features: Path, task_vectors: dict[str, Path], tmp_path: Path
) -> None:
    router = made("projection", features, tmp_path, task_vectors, rank=rank)
    x, _ = rows(features, "validation")
    points = (x.double() / x.double().norm(dim=1, keepdim=True)).numpy()
    left = []
    for path in task_vectors.values():
        V = right_vectors(path, wanted)
        left.append(np.linalg.norm(points - points @ V @ V.T, axis=1))
    scores = -np.stack(left, 1)
    scores = (scores - scores.mean(1, keepdims=True)) / scores.std(1, keepdims=True)
    np.testing.assert_allclose(router(x).numpy(), scores, rtol=1e-4, atol=1e-4)
    assert read_json(tmp_path / "metrics.json")["directions"] == dict.fromkeys(TASKS, wanted)


def test_no_row_makes_the_router(features: Path, task_vectors: dict[str, Path], tmp_path: Path) -> None:
    """Other features, and none at all of train, give the same tensors."""
    save_tensors(tmp_path / "other", {f"{task}/validation": random(5, SIZE, seed=9) for task in TASKS})
    for name, file in (("one", features), ("two", tmp_path / "other")):
        (tmp_path / name).mkdir()
        made("projection", file, tmp_path / name, task_vectors)
    one, two = (dict(Checkpoint(tmp_path / name / "state")) for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert read_json(tmp_path / "two/metrics.json")["train_rows"] == 0


def test_a_feature_in_a_tasks_directions_is_routed_to_it(task_vectors: dict[str, Path], tmp_path: Path) -> None:
    tensors = {}
    for number, task in enumerate(TASKS):
        V = read_directions(task_vectors[task], LAYER, 3, SIZE).float()
        tensors[f"{task}/validation"] = random(ROWS, 3, seed=number) @ V
    save_tensors(tmp_path / "features", tensors)
    made("projection", tmp_path / "features", tmp_path, task_vectors)
    assert read_json(tmp_path / "metrics.json")["held_out_accuracy"] == 1


@pytest.mark.parametrize("rank", [1, 4])
def test_the_directions_of_a_lora_are_those_of_its_product(rank: int, tmp_path: Path) -> None:
    names = list(attention(LAYER))[:2]
    factors = {name: (random(2, SIZE, seed=n), random(SIZE, 2, seed=7 + n)) for n, name in enumerate(names)}
    write_lora(tmp_path / "lora", factors, 1.5)
    products = {name: 1.5 * up @ down for name, (down, up) in factors.items()}
    write_vector(tmp_path / "dense", {**products, list(attention(LAYER))[2]: torch.zeros(SIZE, SIZE)})
    found, wanted = (read_directions(tmp_path / name, LAYER, rank, SIZE) for name in ("lora", "dense"))
    assert len(found) == len(wanted) == rank
    torch.testing.assert_close(found.T @ found, wanted.T @ wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", ["dense", "lora"])
def test_a_conv1d_reads_its_input_by_its_rows(form: str, tmp_path: Path) -> None:
    """Conv1D stores (in, out): x W, so its columns' space, not its rows', is what it reads."""
    down, up = random(4, 3 * SIZE), random(SIZE, 4, seed=1)
    name = "h.1.attn.c_attn.weight"
    if form == "lora":
        write_lora(tmp_path / "gpt", {name: (down, up)}, 2.0)
    else:
        write_vector(tmp_path / "gpt", {name: up @ down})
    found = read_directions(tmp_path / "gpt", 1, 2, SIZE)
    wanted = torch.linalg.svd((up @ down).double()).U[:, :2]
    torch.testing.assert_close(found.T @ found, wanted @ wanted.T, rtol=1e-5, atol=1e-5)


def test_a_vector_of_fewer_directions_leaves_the_others_0(tmp_path: Path) -> None:
    one, zero = torch.outer(random(SIZE), random(SIZE, seed=1)), torch.zeros(SIZE, SIZE)
    for name, matrix in (("one", one), ("zero", zero)):
        write_vector(tmp_path / name, dict.fromkeys(attention(LAYER), matrix))
    found = read_directions(tmp_path / "one", LAYER, 3, SIZE)
    direction = nn.functional.normalize(random(1, SIZE, seed=1).double())
    torch.testing.assert_close(found.T @ found, direction.T @ direction, rtol=1e-5, atol=1e-6)
    assert len(read_directions(tmp_path / "zero", LAYER, 3, SIZE)) == 0


def test_matrices_that_read_a_layers_input_are_known_by_name() -> None:
    names = {
        "encoder.layer.1.attention.self.query.weight": True,
        "layers.1.self_attn.v_proj.weight": True,
        "h.1.attn.c_attn.weight": True,
        "encoder.layer.1.attention.self.query.bias": False,
        "encoder.layer.11.attention.self.query.weight": False,
        "encoder.layer.0.attention.self.query.weight": False,
        "layers.1.self_attn.o_proj.weight": False,
        "encoder.layer.1.output.dense.weight": False,
        "embeddings.word_embeddings.weight": False,
    }
    assert {name: reads_input(name, 1) for name in names} == names


def test_a_task_whose_vector_leaves_the_layer_alone_has_no_directions(
    features: Path, task_vectors: dict[str, Path], tmp_path: Path
) -> None:
    write_vector(tmp_path / "b", {f"encoder.layer.{LAYER}.output.dense.weight": random(SIZE, SIZE)})
    router = made("projection", features, tmp_path, {**task_vectors, "b": tmp_path / "b"})
    assert isinstance(router, ProjectionRouter)
    assert [bool(V.any()) for V in router.directions] == [True, False, True]
    torch.testing.assert_close(residuals(random(5, SIZE), router.directions)[:, 1], torch.ones(5))


def test_vectors_that_all_leave_the_layer_alone_are_said_in_one_line(
    features: Path, task_vectors: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(
        UserError, match=r"c\.safetensors: every query, key and value matrix of layer 2 is zero or missing, "
    ):
        made("projection", features, tmp_path, task_vectors, layer=2)
    assert not (tmp_path / "state").exists()


def test_a_vector_of_another_width_is_said_in_one_line(task_vectors: dict[str, Path]) -> None:
    with pytest.raises(UserError, match=r"key\.weight' reads 8 numbers, features have 9; run route again"):
        read_directions(task_vectors["a"], LAYER, 3, SIZE + 1)


@pytest.mark.parametrize(
    ("weights", "threshold", "at_most", "wanted"),
    [
        ([0.5, 0.3, 0.15, 0.05], 0.2, 3, [0.625, 0.375, 0, 0]),
        ([0.1, 0.3, 0.3, 0.3], 0.2, 2, [0, 0.5, 0.5, 0]),
        ([0.19, 0.19, 0.19, 0.19], 0.2, 3, [1, 0, 0, 0]),
        ([0.4, 0.3, 0.2, 0.1], 0.0, None, [0.4, 0.3, 0.2, 0.1]),
        ([0.2, 0.8, 0.0, 0.0], 0.2, None, [0, 1, 0, 0]),
    ],
)
def test_weights_above_the_threshold_are_kept_else_the_largest(
    weights: list[float], threshold: float, at_most: int | None, wanted: list[float]
) -> None:
    found = keep_above(torch.tensor([weights]), threshold, at_most)
    torch.testing.assert_close(found, torch.tensor([wanted], dtype=torch.float32))


def test_features_at_equal_distance_from_all_tasks_have_equal_logits(
    features: Path, task_vectors: dict[str, Path], tmp_path: Path
) -> None:
    router = made("projection", features, tmp_path, task_vectors)
    assert router(torch.zeros(2, SIZE)).tolist() == [[0, 0, 0]] * 2
    assert router.weights(torch.zeros(1, SIZE)).sum() == pytest.approx(1)
