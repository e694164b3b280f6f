"""Exclusive knowledge: ranks, truncated decompositions, files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny import LABELS, merged
from twin_merging.checkpoints import open_directory
from twin_merging.compression import EXACT_SIDE, compress, decompose
from twin_merging.exclusives import Exclusive, rank_for_energy, rank_of
from twin_merging.experts import Expert
from twin_merging.parameters import PROTOCOLS


def matrix(m: int, n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(m, n, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("m", "n", "sizes", "rank"),
    [
        (768, 768, {"fraction": 0.1}, 76),
        (3072, 768, {"fraction": 0.1}, 76),
        (50265, 768, {"fraction": 0.1}, 76),
        (384, 384, {"fraction": 0.1}, 38),
        (2, 384, {"fraction": 0.1}, 1),
        (10, 10, {"fraction": 0.3}, 3),
        (10, 10, {"rank": 8}, 8),
        (4, 10, {"rank": 8}, 4),
        (10, 10, {"rank": 0}, 0),
        (10, 10, {"rank": 2, "fraction": 0.5}, 5),
        (10, 10, {"fraction": 1.0}, 10),
    ],
)
def test_the_rank_is_as_asked_and_at_most_the_smaller_side(m: int, n: int, sizes: dict[str, float], rank: int) -> None:
    assert rank_of(m, n, sizes) == rank


def test_the_cut_is_the_best_of_its_rank() -> None:
    original = matrix(30, 20)
    found = decompose(original, {"rank": 5})
    values = torch.linalg.svdvals(original)
    error = (original - found.U @ torch.diag(found.S) @ found.V).norm()
    torch.testing.assert_close(found.S, values[:5])
    torch.testing.assert_close(error, values[5:].square().sum().sqrt())


def test_full_rank_gives_the_matrix_back_and_rank_0_nothing() -> None:
    original = matrix(12, 20)
    full = decompose(original, {"fraction": 1.0})
    torch.testing.assert_close(full.U @ torch.diag(full.S) @ full.V, original, rtol=1e-5, atol=1e-5)
    none = decompose(original, {"rank": 0})
    assert (none.U.shape, none.S.shape, none.V.shape) == ((12, 0), (0,), (0, 20))


def test_energy_keeps_the_least_rank_that_suffices() -> None:
    original = matrix(16, 16)
    values = torch.linalg.svdvals(original).double()
    total = float(values.square().sum())
    for energy in (0.1, 0.5, 0.9, 1.0):
        rank = len(decompose(original, {"energy": energy}).S)
        assert values[:rank].square().sum() >= energy * total * (1 - 1e-6)
        assert values[: rank - 1].square().sum() < energy * total
    assert rank_for_energy(values, 0.0, 0.9) == 0


def test_a_large_matrix_of_falling_spectrum_is_cut_as_well_by_the_randomised_way() -> None:
    side, rank = EXACT_SIDE + 76, 20
    left, right = torch.linalg.qr(matrix(side, 200, 1)).Q, torch.linalg.qr(matrix(side, 200, 2)).Q
    values = 1.0 / (1 + torch.arange(200.0))
    original = left @ torch.diag(values) @ right.T
    found = decompose(original, {"rank": rank})
    error = (original - found.U @ torch.diag(found.S) @ found.V).square().sum()
    assert error <= values[rank:].square().sum() * 1.001
    again = decompose(original, {"rank": rank})
    assert all(torch.equal(a, b) for a, b in zip((found.U, found.S, found.V), (again.U, again.S, again.V), strict=True))


def test_singular_vectors_have_a_fixed_sign() -> None:
    original = matrix(9, 7)
    one, other = decompose(original, {"rank": 3}), decompose(original.clone(), {"rank": 3})
    assert torch.equal(one.U, other.U)
    assert (one.U.gather(0, one.U.abs().argmax(0)[None]) > 0).all()


def test_a_zero_matrix_has_zero_factors() -> None:
    found = decompose(torch.zeros(6, 4), {"rank": 2})
    assert not found.S.any()
    assert not (found.U @ torch.diag(found.S) @ found.V).any()


@pytest.mark.parametrize("protocol", ["reference", "strict"])
def test_exclusive_files_hold_the_difference_from_the_shared_expert(
    fetched: Path,
    tmp_path: Path,
    protocol: str,
) -> None:
    shared = merged(fetched, tmp_path / "shared", "task_arithmetic", {"scaling": 0.29}, protocol)
    base, body = open_directory(fetched / "base"), open_directory(shared)
    for task in LABELS:
        file = tmp_path / f"{task}.safetensors"
        compress(
            fetched / "base",
            fetched / "task_vectors" / f"{task}.safetensors",
            shared,
            {"fraction": 1.0},
            PROTOCOLS[protocol],
            file,
        )
        expert, exclusive = Expert(fetched / "experts" / task, base), Exclusive(file, {"fraction": 1.0})
        names = {name for name in base if PROTOCOLS[protocol].merges(name)}
        assert {*exclusive.matrices, *exclusive.vectors} == names
        for name in exclusive.matrices:
            cut = exclusive.matrix(name)
            restored = body[name] + cut.U @ torch.diag(cut.S) @ cut.V
            torch.testing.assert_close(restored, expert.parameter(name), rtol=1e-4, atol=1e-5)
        for name in exclusive.vectors:
            torch.testing.assert_close(body[name] + exclusive.vector(name), expert.parameter(name))


def test_one_decomposition_serves_every_smaller_rank(fetched: Path, tmp_path: Path) -> None:
    shared = merged(fetched, tmp_path / "shared", "task_arithmetic", {"scaling": 0.29}, "strict")
    vector = fetched / "task_vectors" / "one.safetensors"
    asked: dict[str, dict[str, float]] = {"large": {"rank": 6, "fraction": 0.5}, "small": {"rank": 2}}
    for name, sizes in asked.items():
        compress(fetched / "base", vector, shared, sizes, PROTOCOLS["strict"], tmp_path / f"{name}.safetensors")
    cut = Exclusive(tmp_path / "large.safetensors", {"rank": 2})
    alone = Exclusive(tmp_path / "small.safetensors", {"rank": 2})
    for name in alone.matrices:
        assert torch.equal(cut.matrix(name).U, alone.matrix(name).U)
        assert torch.equal(cut.matrix(name).V, alone.matrix(name).V)


@settings(deadline=None, max_examples=60)
@given(m=st.integers(1, 12), n=st.integers(1, 12), rank=st.integers(0, 14), seed=st.integers(0, 100))
def test_no_cut_of_any_shape_and_rank_is_worse_than_the_best(m: int, n: int, rank: int, seed: int) -> None:
    given_matrix = matrix(m, n, seed)
    found = decompose(given_matrix, {"rank": rank})
    kept = min(rank, m, n)
    assert (found.U.shape, found.S.shape, found.V.shape) == ((m, kept), (kept,), (kept, n))
    error = (given_matrix - found.U @ torch.diag(found.S) @ found.V).square().sum()
    best = torch.linalg.svdvals(given_matrix)[kept:].square().sum()
    torch.testing.assert_close(error, best, rtol=1e-4, atol=1e-5)
