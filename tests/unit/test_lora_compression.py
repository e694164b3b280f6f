"""Exclusive knowledge of LoRA experts: by thin QR of their factors, against the dense differences."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.random_models import SHAPES, random_tensors, write_model
from tests.unit.test_lora_merging import DENSE, QUERY, SETTINGS, scale, write_adapter
from twin_merging import merge
from twin_merging.checkpoints.adapters import Factors
from twin_merging.checkpoints.groups import PROTOCOLS
from twin_merging.compression.compress import compress
from twin_merging.compression.decompositions import decompose_sum
from twin_merging.compression.exclusives import Exclusive
from twin_merging.io.tensors import Checkpoint
from twin_merging.io.weights import open_directory
from twin_merging.merging.options import coefficients, complete_options
from twin_merging.merging.registry import merging_methods
from twin_merging.task_vectors.vectors import extract_task_vector

FULL = {"fraction": 1.0}
SCALINGS = {"one": 0.3, "two": -0.5, "three": 0.9}


class Suite:
    """A base, adapters of the given settings, their task vectors, and what each adapter changes, dense in fp64."""

    def __init__(self, root: Path, experts: Mapping[str, dict[str, Any]]):
        self.root, self.base = root, write_model(root / "base", random_tensors(0))
        self.vectors: dict[str, Path] = {}
        self.changes: dict[str, dict[str, torch.Tensor]] = {}
        for seed, (task, setting) in enumerate(experts.items(), start=1):
            targets = (QUERY, DENSE) if seed > 1 else (QUERY,)
            factors = write_adapter(root / task, seed, setting, targets)
            self.changes[task] = {name: scale(setting) * B.double() @ A.double() for name, (A, B) in factors.items()}
            self.vectors[task] = root / f"{task}.safetensors"
            extract_task_vector(self.base, root / task, self.vectors[task])

    def coefficients(self, method: str, options: dict[str, Any]) -> dict[str, float] | None:
        registered = merging_methods()[method]
        return coefficients(
            registered, complete_options(registered, options, list(self.vectors), 0), list(self.vectors)
        )

    def exclusive(self, task: str, shared: Path, linear: dict[str, float] | None, sizes: Any = FULL) -> Exclusive:
        file = self.root / "exclusive.safetensors"
        needed = self.vectors if linear else {task: self.vectors[task]}
        compress(
            task=task,
            base=self.base,
            task_vectors=needed,
            shared=shared,
            sizes=sizes,
            protocol=PROTOCOLS["strict"],
            output=file,
            coefficients=linear,
        )
        return Exclusive(file, sizes)


def restored(exclusive: Exclusive, name: str) -> torch.Tensor:
    if name not in exclusive.matrices:
        return torch.zeros(SHAPES[name], dtype=torch.float64)
    found = exclusive.matrix(name)
    return found.U.double() @ torch.diag(found.S.double()) @ found.V.double()


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    return Suite(tmp_path_factory.mktemp("lora"), SETTINGS)


@pytest.fixture
def unread(suite: Suite, tmp_path: Path) -> Path:
    """A shared expert with no values: what reads it gets zeros and is wrong."""
    return write_model(tmp_path / "unread", {name: torch.zeros(shape) for name, shape in SHAPES.items()})


@pytest.mark.parametrize(
    ("method", "options", "shares"),
    [
        ("task_arithmetic", {"scaling": 0.4}, dict.fromkeys(SETTINGS, 0.4)),
        ("task_arithmetic", {"scaling": SCALINGS}, SCALINGS),
        ("weight_average", {}, dict.fromkeys(SETTINGS, 1 / 3)),
        ("weight_average", {"weights": {"one": 1, "two": 2, "three": 5}}, {"one": 1 / 8, "two": 1 / 4, "three": 5 / 8}),
    ],
    ids=str,
)
def test_the_factors_give_the_dense_difference_without_reading_the_shared_expert(
    suite: Suite, unread: Path, method: str, options: dict[str, Any], shares: dict[str, float]
) -> None:
    linear = suite.coefficients(method, options)
    assert linear == pytest.approx(shares)
    for task in SETTINGS:
        exclusive = suite.exclusive(task, unread, linear)
        assert (exclusive.matrices, exclusive.vectors) == (sorted([QUERY, DENSE]), [])
        for name in (QUERY, DENSE):
            zero = torch.zeros(SHAPES[name], dtype=torch.float64)
            mean = sum(share * suite.changes[other].get(name, zero) for other, share in shares.items())
            wanted = suite.changes[task].get(name, zero) - mean
            torch.testing.assert_close(restored(exclusive, name), wanted, rtol=1e-5, atol=1e-6)
            cut = restored(suite.exclusive(task, unread, linear, {"rank": 5}), name)
            best = torch.linalg.svdvals(wanted)[5:].square().sum().sqrt()
            assert (wanted - cut).norm() <= 1.0001 * best + 1e-6


def test_the_rank_is_at_most_that_of_all_adapters_together_and_energy_is_of_the_whole(
    suite: Suite, unread: Path
) -> None:
    linear = suite.coefficients("weight_average", {})
    exclusive = suite.exclusive("two", unread, linear)
    assert len(exclusive.matrix(QUERY).S) == sum(setting["r"] for setting in SETTINGS.values())
    whole = float(exclusive.matrix(QUERY).S.double().square().sum())
    assert exclusive.matrix(QUERY).norm2 == pytest.approx(whole)
    least = suite.exclusive("two", unread, linear, {"energy": 0.7}).matrix(QUERY).S.double().square()
    assert least[:-1].sum() < 0.7 * whole <= least.sum()


@pytest.mark.parametrize(
    ("method", "options"), [("ties", {}), ("task_arithmetic", {"lora_space": "factor"}), ("model_stock", {})], ids=str
)
def test_what_is_no_linear_sum_takes_the_dense_way(tmp_path: Path, method: str, options: dict[str, Any]) -> None:
    suite = Suite(tmp_path, dict.fromkeys(("a", "b"), SETTINGS["one"]))
    assert suite.coefficients(method, options) is None
    adapters = {task: tmp_path / task for task in suite.vectors}
    shared = merge(method, base=suite.base, experts=adapters, output=tmp_path / "shared", **options)
    exclusive = suite.exclusive("b", shared, None)
    assert (exclusive.matrices, exclusive.vectors) == (sorted([QUERY, DENSE]), [])
    for name in (QUERY, DENSE):
        wanted = open_directory(suite.base)[name].double() + suite.changes["b"][name] - open_directory(shared)[name]
        torch.testing.assert_close(restored(exclusive, name), wanted, rtol=1e-4, atol=1e-5)


def test_the_dense_way_and_the_factors_agree_on_a_linear_sum(suite: Suite, tmp_path: Path, unread: Path) -> None:
    adapters = {task: suite.root / task for task in SETTINGS}
    shared = merge("task_arithmetic", base=suite.base, experts=adapters, output=tmp_path / "out", scaling=0.4)
    linear = suite.coefficients("task_arithmetic", {"scaling": 0.4})
    dense, factored = restored(suite.exclusive("two", shared, None), QUERY), suite.exclusive("two", unread, linear)
    torch.testing.assert_close(restored(factored, QUERY), dense, rtol=1e-4, atol=1e-5)


def test_terms_that_cancel_out_leave_nothing_and_the_same_bytes_come_again() -> None:
    generator = torch.Generator().manual_seed(0)
    one = Factors(torch.randn(3, 20, generator=generator), torch.randn(30, 3, generator=generator))
    nothing = decompose_sum([(0.3, one), (-0.1, one), (-0.2, one)], FULL)
    assert (nothing.U.shape, nothing.S.shape, nothing.V.shape, nothing.norm2) == ((30, 0), (0,), (0, 20), 0.0)
    found, again = decompose_sum([(0.3, one)], FULL), decompose_sum([(0.3, one)], FULL)
    assert torch.equal(found.U, again.U)
    assert (found.U.gather(0, found.U.abs().argmax(0)[None]) > 0).all()


def test_one_expert_alone_is_its_own_average_and_has_no_exclusive_knowledge(tmp_path: Path, unread: Path) -> None:
    suite = Suite(tmp_path, {"two": SETTINGS["two"]})
    suite.exclusive("two", unread, suite.coefficients("weight_average", {}))
    assert list(Checkpoint(tmp_path / "exclusive.safetensors")) == []
