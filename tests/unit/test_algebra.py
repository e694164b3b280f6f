"""Decompositions that always end: another algorithm where LAPACK's first does not converge, and what is refused."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch

from twin_merging.algebra.gram import gram, inverse_root, least_kept, right_vectors, summed_gram
from twin_merging.algebra.polar import EXACT_SIDE, orthogonalised, thin_svd
from twin_merging.algebra.solvers import eigh, svd
from twin_merging.checkpoints.adapters import Factors
from twin_merging.compression.decompositions import decompose, decompose_sum
from twin_merging.errors import UserError
from twin_merging.merging.matrices import divided


def matrix(m: int, n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(m, n, generator=torch.Generator().manual_seed(seed))


def of_spectrum(m: int, n: int, values: torch.Tensor) -> torch.Tensor:
    """A matrix (m, n) in fp64 of these singular values."""
    left, right = (torch.linalg.qr(matrix(side, len(values), side).double()).Q for side in (m, n))
    return (left * values.double()) @ right.T


@pytest.fixture
def lapack_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """LAPACK's divide and conquer fails on every matrix, as gesdd does on some."""

    def fail(*arguments: Any, **named: Any) -> None:
        raise torch.linalg.LinAlgError("linalg.svd: The algorithm failed to converge\nbecause of its input.")

    monkeypatch.setattr("torch.linalg.svd", fail)
    monkeypatch.setattr("torch.linalg.eigh", fail)


CASES: dict[str, Callable[[], torch.Tensor]] = {
    "ordinary": lambda: matrix(40, 30),
    "wide": lambda: matrix(7, 300),
    "tall": lambda: matrix(500, 3),
    "zero": lambda: torch.zeros(30, 20),
    "one number": lambda: torch.ones(1, 1),
    "without rows": lambda: torch.zeros(0, 5),
    "a duplicated column": lambda: matrix(40, 30)[:, [0, 0, *range(2, 30)]],
    "of rank 2": lambda: of_spectrum(40, 30, torch.tensor([3.0, 1.0])),
    "tiny": lambda: matrix(40, 30) * 1e-30,
    "huge": lambda: matrix(40, 30) * 1e30,
    "below the normal numbers": lambda: matrix(40, 30) * 1e-42,
    "near the largest number": lambda: matrix(40, 30).clamp(-3, 3) * 1e38,
    "equal singular values": lambda: torch.linalg.qr(matrix(40, 30)).Q,
}


@pytest.mark.parametrize("way", ["first", "older"])
@pytest.mark.parametrize("case", CASES)
def test_singular_triples_give_the_matrix_back(case: str, way: str, request: pytest.FixtureRequest) -> None:
    given = CASES[case]().double()
    values = np.linalg.svd(given.numpy(), compute_uv=False)
    if way == "older":
        request.getfixturevalue("lapack_fails")
    U, S, V = svd(given, "layer.weight")
    least = min(given.shape)
    assert (U.shape, S.shape, V.shape) == ((given.shape[0], least), (least,), (least, given.shape[1]))
    top = float(values[0]) if values.size else 0.0
    np.testing.assert_allclose(S.numpy(), values, rtol=0, atol=1e-13 * top)
    torch.testing.assert_close((U * S) @ V, given, rtol=0, atol=1e-13 * top)
    for vectors in (U, V.T):
        torch.testing.assert_close(vectors.T @ vectors, torch.eye(least).double(), rtol=0, atol=1e-12)
    found, vectors = eigh(given.T @ given, "layer.weight")
    assert (found[:-1] >= found[1:]).all()
    torch.testing.assert_close((vectors * found) @ vectors.T, given.T @ given, rtol=0, atol=1e-12 * top**2)


def test_who_fails_is_told_with_the_tensors_name(
    lapack_fails: None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with caplog.at_level(logging.WARNING):
        svd(matrix(3, 4), "layer.weight")
    assert "tensor 'layer.weight': linalg.svd: The algorithm failed to converge; computed again" in caplog.text

    def fail(*arguments: Any, **named: Any) -> None:
        raise np.linalg.LinAlgError("SVD did not converge")

    monkeypatch.setattr(scipy.linalg, "svd", fail)
    monkeypatch.setattr(scipy.linalg, "eigh", fail)
    with pytest.raises(UserError, match=r"tensor 'layer.weight': no decomposition of its matrix \(3 x 4\) converges"):
        svd(matrix(3, 4), "layer.weight")
    with pytest.raises(UserError, match=r"tensor 'layer.weight': no decomposition of its matrix \(4 x 4\) converges"):
        eigh(gram(matrix(3, 4)), "layer.weight")


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_infinity_are_refused_by_the_tensors_name(wrong: float) -> None:
    given = matrix(20, 20)
    given[3, 4] = wrong
    calls: list[Callable[[], Any]] = [
        lambda: svd(given, "layer.weight"),
        lambda: eigh(given, "layer.weight"),
        lambda: divided(given.double(), given.double(), "layer.weight"),
        lambda: decompose(given, {"rank": 3}, "layer.weight"),
        lambda: decompose_sum([(1.0, Factors(given, given))], {"rank": 3}, "layer.weight"),
    ]
    for call in calls:
        with pytest.raises(UserError, match=r"tensor 'layer.weight': what is to be decomposed holds NaN or infinity"):
            call()


def test_a_gram_matrix_of_blocks_is_that_of_the_whole() -> None:
    given = matrix(900, 600)
    torch.testing.assert_close(summed_gram(given.split(250), 600), given.double().T @ given.double())
    found = gram(given)
    assert torch.equal(found, found.T)


@pytest.mark.parametrize("shape", [(300, 200), (200, 200), (200, 300)], ids=str)
@pytest.mark.parametrize("exact", [False, True])
def test_a_polar_factor_is_that_of_the_singular_triples(shape: tuple[int, int], exact: bool) -> None:
    given = matrix(*shape)
    U, _, V = torch.linalg.svd(given.double(), full_matrices=False)
    assert min(shape) > EXACT_SIDE
    torch.testing.assert_close(orthogonalised(given, "x", exact), U @ V, rtol=0, atol=1e-10)


def test_a_polar_factor_leaves_out_singular_values_of_zero() -> None:
    values = torch.cat([torch.linspace(3, 1, 150), torch.zeros(50)])
    given = of_spectrum(300, 200, values)
    U, _, V = torch.linalg.svd(given)
    torch.testing.assert_close(orthogonalised(given, "x"), U[:, :150] @ V[:150], rtol=0, atol=1e-10)
    assert orthogonalised(torch.zeros(300, 200), "x").abs().max() == 0


def test_an_inverse_root_that_rounding_could_spoil_is_refused_and_the_exact_way_is_taken() -> None:
    """The least singular value is just above what counts as zero beside the largest."""
    shape = (160, 140)
    given = of_spectrum(*shape, torch.logspace(0, float(np.log10(1.2 * least_kept(160))), 140))
    assert inverse_root(gram(given), 160, "x") is None
    U, _, V = torch.linalg.svd(given, full_matrices=False)
    torch.testing.assert_close(orthogonalised(given, "x"), U @ V, rtol=0, atol=1e-9)


def test_right_vectors_leave_out_what_is_zero_up_to_rounding() -> None:
    given = of_spectrum(300, 150, torch.tensor([2.0, 1.0, 1e-3, 1e-7]))
    S, V = right_vectors(gram(given), 300, "x")
    np.testing.assert_allclose(S, [2.0, 1.0, 1e-3], rtol=1e-7)
    assert V.shape == (150, 3)
    assert len(thin_svd(given, "x")[1]) == 3
    assert len(thin_svd(given, "x", 2)[1]) == 2


def test_a_singular_gram_matrix_is_divided_by_its_pseudo_inverse(lapack_fails: None) -> None:
    inputs = matrix(10, 30).double()
    wanted = matrix(5, 30, 1).double() @ torch.from_numpy(np.linalg.pinv((inputs.T @ inputs).numpy()))
    found = divided(matrix(5, 30, 1).double(), inputs.T @ inputs, "x")
    torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("sizes", [{"rank": 8}, {"fraction": 1.0}, {"energy": 0.9}], ids=str)
@pytest.mark.parametrize("scale", [1e-42, 1e-30, 1.0, 1e30, 1e35])
@pytest.mark.parametrize("shape", [(300, 200), (60, 90)], ids=str)
def test_a_cut_of_any_scale_is_that_of_the_plain_matrix(
    shape: tuple[int, int], scale: float, sizes: dict[str, float], lapack_fails: None
) -> None:
    """Powers of two scale without rounding, so even the bytes are the same; numbers below the normal ones have less."""
    power = 2.0 ** round(float(np.log2(scale)))
    given = matrix(*shape)
    found, plain = decompose(given * power, sizes), decompose(given, sizes)
    near = 1e-2 if scale == 1e-42 else 0.0
    torch.testing.assert_close(found.S.double() / power, plain.S.double(), rtol=near, atol=near)
    assert found.norm2 == pytest.approx(plain.norm2 * power**2, rel=1e-2 if near else 1e-15)
    if not near:
        assert torch.equal(found.U, plain.U)
        assert torch.equal(found.V, plain.V)


def test_a_singular_value_above_the_range_of_float32_is_refused() -> None:
    with pytest.raises(UserError, match=r"tensor 'w': its largest singular value is above float32's range"):
        decompose(torch.full((300, 300), 3e38), {"rank": 2}, "w")
