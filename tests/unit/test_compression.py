"""Exclusive knowledge: ranks, truncated decompositions, files. (LoRA experts: test_lora_compression.py.)"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny import LABELS, merged
from twin_merging.checkpoints.experts import Expert
from twin_merging.checkpoints.groups import PROTOCOLS
from twin_merging.compression.compress import compress
from twin_merging.compression.decompositions import EXACT_SIDE, decompose, exact_svd, randomised_svd, squared_norm
from twin_merging.compression.exclusives import Decomposition, Exclusive, rank_for_energy, rank_of
from twin_merging.compression.report import Row, report, write_report
from twin_merging.io.tensors import Checkpoint, open_directory, save_tensors
from twin_merging.model.assemble import cut


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
        vector = fetched / "task_vectors" / f"{task}.safetensors"
        compress(
            task=task,
            base=fetched / "base",
            task_vectors={task: vector},
            shared=shared,
            sizes={"fraction": 1.0},
            protocol=PROTOCOLS[protocol],
            output=file,
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
        file = tmp_path / f"{name}.safetensors"
        compress(
            task="one",
            base=fetched / "base",
            task_vectors={"one": vector},
            shared=shared,
            sizes=sizes,
            protocol=PROTOCOLS["strict"],
            output=file,
        )
    cut = Exclusive(tmp_path / "large.safetensors", {"rank": 2})
    alone = Exclusive(tmp_path / "small.safetensors", {"rank": 2})
    for name in alone.matrices:
        assert torch.equal(cut.matrix(name).U, alone.matrix(name).U)
        assert torch.equal(cut.matrix(name).V, alone.matrix(name).V)


def test_what_is_zero_is_not_stored(fetched: Path, tmp_path: Path) -> None:
    """The shared expert is expert one itself, but for one matrix and one vector."""
    vector, file = fetched / "task_vectors" / "one.safetensors", tmp_path / "one.safetensors"
    start, changes = open_directory(fetched / "base"), Checkpoint(vector)
    body = {name: start[name] + changes[name] if name in changes else start[name] for name in start}
    query, norm = "encoder.layer.0.attention.self.query.weight", "embeddings.LayerNorm.weight"
    body[query], body[norm] = body[query] + 1, body[norm] + 2
    save_tensors(tmp_path / "shared" / "model.safetensors", body)
    compress(
        task="one",
        base=fetched / "base",
        task_vectors={"one": vector},
        shared=tmp_path / "shared",
        sizes={"rank": 2},
        protocol=PROTOCOLS["strict"],
        output=file,
    )
    exclusive = Exclusive(file, {"rank": 2})
    assert (exclusive.matrices, exclusive.vectors) == ([query], [norm])
    found = cut(exclusive)
    assert (set(found.factors), set(found.vectors)) == ({query}, {norm})
    torch.testing.assert_close(found.vectors[norm], torch.full((16,), -2.0))


def test_the_report_counts_ranks_numbers_and_energy(tmp_path: Path) -> None:
    def of(values: list[float]) -> dict[str, torch.Tensor]:
        S = torch.tensor(values)
        parts = {"U": torch.eye(4)[:, : len(S)], "S": S, "V": torch.eye(3)[: len(S)]}
        return {**parts, "norm2": S.double().square().sum().reshape(1)}

    query = "encoder.layer.{}.query.weight"
    names = {query.format(0): [2.0, 1.0], query.format(1): [1.0, 0.5, 0.5]}
    tensors = {f"{name}.{part}": tensor for name, values in names.items() for part, tensor in of(values).items()}
    tensors["norm.weight"] = torch.tensor([1.0, 2.0])
    save_tensors(tmp_path / "one.safetensors", tensors)
    shapes: dict[str, tuple[int, ...]] = {query.format(layer): (4, 3) for layer in range(3)}
    shapes |= {"word.weight": (10, 3), "norm.weight": (2,), "norm.bias": (2,)}
    rows = report("one", Exclusive(tmp_path / "one.safetensors", {"energy": 0.8}), shapes)
    assert rows == [
        Row(
            task="one",
            kind=query.format("*"),
            matrices=3,
            smallest_rank=0,
            largest_rank=2,
            numbers=7 + 14,
            share=21 / 36,
            energy=5.25 / 6.5,
        ),
        Row(
            task="one",
            kind="word.weight",
            matrices=1,
            smallest_rank=0,
            largest_rank=0,
            numbers=0,
            share=0.0,
            energy=None,
        ),
        Row(
            task="one",
            kind="vectors",
            matrices=2,
            smallest_rank=None,
            largest_rank=None,
            numbers=2,
            share=0.5,
            energy=1.0,
        ),
        Row(
            task="one",
            kind="all",
            matrices=6,
            smallest_rank=0,
            largest_rank=2,
            numbers=23,
            share=23 / 70,
            energy=10.25 / 11.5,
        ),
    ]
    write_report(tmp_path / "compression.csv", rows)
    lines = (tmp_path / "compression.csv").read_text().splitlines()
    assert lines[0] == "task,kind,matrices,smallest_rank,largest_rank,numbers,share,energy"
    assert lines[2:4] == ["one,word.weight,1,0,0,0,0.000000,", "one,vectors,2,,,2,0.500000,1.000000"]


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
