"""Ranks and truncated decompositions of exclusive knowledge."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from twin_merging.compression.decompositions import EXACT_SIDE, decompose, exact_svd, randomised_svd, squared_norm
from twin_merging.compression.exclusives import Decomposition, rank_for_energy, rank_of


def product(found: Decomposition) -> torch.Tensor:
    """U S V in fp64."""
    return found.U.double() @ torch.diag(found.S.double()) @ found.V.double()


def of_spectrum(m: int, n: int, values: torch.Tensor) -> torch.Tensor:
    """A matrix of these singular values."""
    count = len(values)
    left, right = torch.linalg.qr(matrix(m, count, 1).double()).Q, torch.linalg.qr(matrix(n, count, 2).double()).Q
    return (left @ torch.diag(values.double()) @ right.T).float()


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


STEPS = torch.arange(1, 301.0)
SPECTRA = {
    "falling slowly": STEPS**-0.5,
    "falling fast": STEPS**-2.0,
    "a step": (STEPS <= 40) + 0.3,
    "exponential": torch.exp(-STEPS / 25) + 0.01,
}


@pytest.mark.parametrize("way", ["randomised", "exact", "chosen"])
@pytest.mark.parametrize("shape", [(300, 300), (1200, 300), (300, 700)], ids=str)
@pytest.mark.parametrize("rank", [3, 40])
@pytest.mark.parametrize("spectrum", ["flat", *SPECTRA])
def test_a_cut_is_within_a_thousandth_of_the_best(way: str, shape: tuple[int, int], rank: int, spectrum: str) -> None:
    given_matrix = matrix(*shape) if spectrum == "flat" else of_spectrum(*shape, SPECTRA[spectrum])
    norm2 = squared_norm(given_matrix)
    found: Decomposition | None
    if way == "randomised":
        found = randomised_svd(given_matrix, rank, norm2)
    else:
        sizes = {"rank": rank}
        found = exact_svd(given_matrix, sizes, norm2) if way == "exact" else decompose(given_matrix, sizes)
    assert found is not None
    values = torch.linalg.svdvals(given_matrix.double())
    best = values[rank:].square().sum().sqrt()
    assert (given_matrix - product(found)).norm() <= 1.001 * best + 1e-6 * values.norm()
    for vectors in (found.U, found.V.T):
        torch.testing.assert_close(vectors.T @ vectors, torch.eye(rank), rtol=0, atol=1e-4)


def test_the_randomised_way_is_taken_for_a_large_matrix_and_gives_the_same_bytes_again() -> None:
    large = matrix(EXACT_SIDE + 80, EXACT_SIDE + 40)
    found, again = decompose(large, {"rank": 8}), randomised_svd(large.clone(), 8, squared_norm(large))
    assert again is not None
    assert all(torch.equal(a, b) for a, b in zip((found.U, found.S, found.V), (again.U, again.S, again.V), strict=True))


def test_when_the_check_fails_the_exact_way_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twin_merging.compression.decompositions.TOLERANCE", -1.0)
    large = matrix(300, 200)
    assert randomised_svd(large, 8, squared_norm(large)) is None
    exact = exact_svd(large, {"rank": 8}, squared_norm(large))
    assert torch.equal(decompose(large, {"rank": 8}).U, exact.U)


@pytest.mark.parametrize(("m", "n"), [(400, 300), (40, 60)])
def test_a_matrix_of_low_rank_has_no_triples_of_rounding(m: int, n: int) -> None:
    low = of_spectrum(m, n, torch.tensor([3.0, 2.0, 1.0]))
    for sizes in ({"rank": 20}, {"fraction": 1.0}):
        found = decompose(low, sizes)
        assert all(part.isfinite().all() for part in (found.U, found.S, found.V))
        torch.testing.assert_close(product(found).float(), low, rtol=0, atol=1e-6 * float(low.norm()))
    outer = torch.outer(torch.ones(m), torch.arange(1.0, n + 1))
    assert len(decompose(outer, {"rank": 20}).S) == 1


def test_tiny_and_huge_numbers_keep_their_precision() -> None:
    ordinary = matrix(300, 200)
    for scale in (1e-18, 1e15):
        error = (ordinary * scale - product(decompose(ordinary * scale, {"rank": 8}))).norm() / scale
        assert error == pytest.approx(float((ordinary - product(decompose(ordinary, {"rank": 8}))).norm()), rel=1e-3)


def test_a_tall_embedding_is_cut_in_pieces_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    tall = matrix(5000, 64)
    whole = exact_svd(tall, {"rank": 64}, squared_norm(tall))
    monkeypatch.setattr("twin_merging.compression.decompositions._PIECE", 64 * 999)
    for found in (whole, exact_svd(tall, {"rank": 64}, squared_norm(tall))):
        torch.testing.assert_close(product(found).float(), tall, rtol=1e-5, atol=1e-5)


def test_singular_vectors_have_a_fixed_sign() -> None:
    original = matrix(9, 7)
    one, other = decompose(original, {"rank": 3}), decompose(original.clone(), {"rank": 3})
    assert torch.equal(one.U, other.U)
    assert (one.U.gather(0, one.U.abs().argmax(0)[None]) > 0).all()


@pytest.mark.parametrize("sizes", [{"rank": 2}, {"energy": 0.9}], ids=str)
def test_a_zero_matrix_has_no_factors(sizes: dict[str, float]) -> None:
    found = decompose(torch.zeros(6, 4), sizes)
    assert (found.U.shape, found.S.shape, found.V.shape) == ((6, 0), (0,), (0, 4))


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
