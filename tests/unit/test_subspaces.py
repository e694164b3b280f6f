"""TSV-M, Iso-C and Iso-CTS of matrices of all kinds: by Gram matrices, by blocks of rows, and by SVDs of whole ones."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest
import torch

from twin_merging.checkpoints.fused import Groups
from twin_merging.errors import UserError
from twin_merging.merging import blocks as blocks_module
from twin_merging.merging import subspaces
from twin_merging.merging.blocks import Blocks, Tall
from twin_merging.merging.inputs import Inputs
from twin_merging.merging.matrices import mean_of
from twin_merging.merging.methods.spectral import iso_c, iso_cts, tsv_m
from twin_merging.merging.registry import Parameter

METHODS: dict[str, Callable[..., torch.Tensor]] = {"tsv_m": tsv_m, "iso_c": iso_c}
TASKS = ("a", "b", "c")
# The largest error of a merged change, as a share of its norm, beside SVDs in fp64 (and 6e-8 for its cast to fp32).
TOLERANCE = 1e-7


def normal(m: int, n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(m, n, generator=torch.Generator().manual_seed(seed))


def decaying(m: int, n: int, seed: int) -> torch.Tensor:
    """Like a real task vector: a part of low rank with falling singular values, in noise."""
    rank = min(m, n) // 8
    left, right = torch.linalg.qr(normal(m, rank, seed)).Q, torch.linalg.qr(normal(n, rank, seed + 90)).Q
    return (left * (torch.arange(1, rank + 1.0) ** -1)) @ right.T + 3e-3 * normal(m, n, seed + 50)


def low_rank(m: int, n: int, seed: int) -> torch.Tensor:
    return normal(m, 4, seed) @ normal(4, n, seed + 9)


KINDS: dict[str, Callable[[int, int], list[torch.Tensor]]] = {
    "noise": lambda m, n: [normal(m, n, seed) for seed in range(3)],
    "decaying": lambda m, n: [decaying(m, n, seed) for seed in range(3)],
    "of rank 4": lambda m, n: [low_rank(m, n, seed) for seed in range(3)],
    "one is zero": lambda m, n: [normal(m, n), torch.zeros(m, n), normal(m, n, 2)],
    "two are equal": lambda m, n: [normal(m, n), normal(m, n), normal(m, n, 2)],
    "two are nearly equal": lambda m, n: [normal(m, n), normal(m, n) + 1e-3 * normal(m, n, 1), normal(m, n, 2)],
    "one is the other's negative": lambda m, n: [normal(m, n), -normal(m, n), normal(m, n, 2)],
    "duplicated columns": lambda m, n: [normal(m, n, s)[:, torch.arange(n) // 2] for s in range(3)],
    "tiny": lambda m, n: [1e-30 * normal(m, n, seed) for seed in range(3)],
    "huge": lambda m, n: [1e30 * normal(m, n, seed) for seed in range(3)],
    "of other sizes": lambda m, n: [10.0 ** (4 * seed) * normal(m, n, seed) for seed in range(3)],
}


def parameter(taus: Sequence[torch.Tensor], base: torch.Tensor | None = None) -> Parameter:
    start = torch.zeros(taus[0].shape) if base is None else base
    return Parameter("layer.weight", start, dict(zip(TASKS, taus, strict=False)), tuple(start.shape))


def whole_svd(matrix: torch.Tensor, rank: int | None = None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    U, S, V = torch.linalg.svd(matrix.double(), full_matrices=False)
    kept = int((S.max() * max(matrix.shape) * torch.finfo(torch.float32).eps < S).sum())
    kept = kept if rank is None else min(rank, kept)
    return U[:, :kept], S[:kept], V[:kept]


def wanted(method: str, taus: Sequence[torch.Tensor]) -> torch.Tensor:
    """The change, with SVDs of whole matrices in fp64; of the sum as it is rounded to fp32."""
    if method == "iso_c":
        U, S, V = whole_svd(mean_of(list(taus)).double() * len(taus))
        return S.mean() * U @ V
    parts = [whole_svd(tau, min(tau.shape) // len(taus)) for tau in taus]
    U, S, V = torch.cat([p[0] for p in parts], 1), torch.cat([p[1] for p in parts]), torch.cat([p[2] for p in parts])
    left, right = ((P @ Q) for P, _, Q in (whole_svd(U), whole_svd(V)))
    return left @ torch.diag(S) @ right


def wanted_cts(taus: Sequence[torch.Tensor]) -> torch.Tensor:
    """Of Iso-CTS: of 150 directions 10 are each task's own, the other 120 of the sum."""
    parts = [whole_svd(mean_of(list(taus)).double() * len(taus), 120)]
    for tau in taus:
        rest = tau.double() - parts[0][0] @ (parts[0][0].T @ tau.double())
        U, S, V = whole_svd(rest, 10)
        kept = tau.double().norm() * max(tau.shape) * torch.finfo(torch.float32).eps < S
        parts.append((U[:, kept], S[kept], V[kept]))
    U, S, V = torch.cat([p[0] for p in parts], 1), torch.cat([p[1] for p in parts]), torch.cat([p[2] for p in parts])
    left, right = ((P @ Q) for P, _, Q in (whole_svd(U), whole_svd(V)))
    return S.mean() * left @ right


@pytest.mark.parametrize("shape", [(400, 150), (150, 400)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_common_and_own_spaces_are_those_of_whole_svds(kind: str, shape: tuple[int, int]) -> None:
    taus = KINDS[kind](*shape)
    found = iso_cts(Blocks.of(parameter(taus)))
    assert found.is_contiguous()
    assert_near(found, wanted_cts(taus))


def test_without_own_spaces_iso_cts_is_iso_c() -> None:
    taus, base = KINDS["decaying"](300, 150), normal(300, 150, 7)
    both = [method(Blocks.of(parameter(taus, base))) for method in (iso_c, lambda own: iso_cts(own, fraction=1.0))]
    torch.testing.assert_close(*both)
    assert torch.equal(iso_cts(Blocks.of(parameter([torch.zeros(300, 150)] * 3, base))), base)


def assert_near(found: torch.Tensor, change: torch.Tensor) -> None:
    assert (found.double() - change).norm() <= TOLERANCE * change.norm()


@pytest.mark.parametrize("shape", [(150, 150), (400, 150), (150, 400)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_a_change_is_that_of_whole_svds(method: str, kind: str, shape: tuple[int, int]) -> None:
    """Where two tasks are equal, TSV-M's U and V have singular values of zero, which neither way keeps."""
    taus = KINDS[kind](*shape)
    found = METHODS[method](Blocks.of(parameter(taus)))
    assert found.is_contiguous()
    assert_near(found, wanted(method, taus))


@pytest.mark.parametrize("method", METHODS)
def test_a_scaled_change_is_added_to_the_base(method: str) -> None:
    taus, base = KINDS["noise"](150, 300), normal(150, 300, 7)
    found = METHODS[method](Blocks.of(parameter(taus, base)), scaling=0.5)
    torch.testing.assert_close(found, (base + 0.5 * wanted(method, taus)).float(), rtol=1e-5, atol=1e-5)
    zeros = [torch.zeros(150, 300)] * 3
    assert torch.equal(METHODS[method](Blocks.of(parameter(zeros, base))), base)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["decaying", "two are nearly equal"])
def test_where_lapack_fails_the_change_is_the_same(method: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **named: Any) -> None:
        raise torch.linalg.LinAlgError("The algorithm failed to converge")

    for shape in ((400, 150), (60, 40)):  # by Gram matrices, and by SVDs
        taus = KINDS[kind](*shape)
        change = wanted(method, taus)
        with monkeypatch.context() as patched:
            patched.setattr("torch.linalg.svd", fail)
            patched.setattr("torch.linalg.eigh", fail)
            assert_near(METHODS[method](Blocks.of(parameter(taus))), change)


@pytest.mark.parametrize("shape", [(400, 150), (150, 400)], ids=str)
@pytest.mark.parametrize("check", ["ORTHONORMAL", "LIMIT"])
@pytest.mark.parametrize("method", METHODS)
def test_where_a_check_fails_svds_are_taken(
    method: str, check: str, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []

    def counted(matrix: torch.Tensor, *rest: Any) -> tuple[torch.Tensor, ...]:
        taken.append(matrix.shape)
        return whole_svd(matrix, *rest[1:])

    monkeypatch.setattr("twin_merging.algebra.polar.thin_svd", counted)
    monkeypatch.setattr(subspaces, "thin_svd", counted)
    taus = KINDS["noise"](*shape)
    METHODS[method](Blocks.of(parameter(taus)))
    assert not taken, "nothing has failed"
    monkeypatch.setattr(
        f"twin_merging.{'merging.subspaces' if check == 'ORTHONORMAL' else 'algebra.gram'}.{check}", -1.0
    )
    assert_near(METHODS[method](Blocks.of(parameter(taus))), wanted(method, taus))
    assert len(taken) == {"ORTHONORMAL": {"tsv_m": 3, "iso_c": 0}, "LIMIT": {"tsv_m": 2, "iso_c": 1}}[check][method]


def test_a_cut_through_equal_singular_values_takes_the_same_part_of_their_space_every_time() -> None:
    """Which part is arbitrary, in an SVD too; the sizes of what is kept are not."""
    taus = [torch.linalg.qr(normal(400, 150, seed)).Q for seed in range(3)]
    one, other = (tsv_m(Blocks.of(parameter([tau.clone() for tau in taus]))) for _ in range(2))
    assert torch.equal(one, other)
    torch.testing.assert_close(torch.linalg.svdvals(one.double()), torch.ones(150).double(), rtol=0, atol=1e-5)


class Drawn:
    """A parameter (m, n) of a base and of some tasks, whose rows are drawn anew whenever they are read. Counts what was
    asked for."""

    def __init__(self, m: int, n: int, tasks: Sequence[str] = TASKS):
        self.m, self.n, self.tasks = m, n, tasks
        self.asked: list[tuple[int, tuple[str, ...]]] = []

    def shape(self, name: str) -> tuple[int, int]:
        return self.m, self.n

    def read(self, start: int, stop: int, tasks: Sequence[str]) -> Parameter:
        self.asked.append((stop - start, tuple(tasks)))
        drawn = {task: self.drawn(1 + self.tasks.index(task), start, stop) for task in tasks}
        return Parameter("layer.weight", self.drawn(0, start, stop), drawn, (self.m, self.n), start)

    def drawn(self, seed: int, start: int, stop: int) -> torch.Tensor:
        blocks = [normal(64, self.n, 1000 * seed + block) for block in range(start // 64, -(-stop // 64))]
        return torch.cat(blocks)[start % 64 :][: stop - start]


@pytest.mark.parametrize("method", METHODS)
def test_a_large_parameter_is_read_by_blocks_of_rows_and_gives_the_same_bytes(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks_module, "BLOCK", 2**14)
    given = Drawn(2000, 140)
    blocks = Blocks("layer.weight", (2000, 140), TASKS, given.read)
    held = Blocks.of(given.read(0, 2000, TASKS))
    given.asked.clear()
    found = METHODS[method](blocks)
    assert max(rows for rows, _ in given.asked) < 500
    if method == "tsv_m":
        assert max(len(tasks) for _, tasks in given.asked) == 1, "one expert at a time"
    assert torch.equal(found, METHODS[method](held))
    assert_near(found - held.base(), wanted(method, list(held.whole().vectors.values())))


def test_iso_cts_reads_a_large_parameter_by_blocks_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks_module, "BLOCK", 2**14)
    given = Drawn(2000, 150)
    held = Blocks.of(given.read(0, 2000, TASKS))
    given.asked.clear()
    found = iso_cts(Blocks("layer.weight", (2000, 150), TASKS, given.read))
    assert max(rows for rows, _ in given.asked) < 500
    assert torch.equal(found, iso_cts(held))
    assert_near(found - held.base(), wanted_cts(list(held.whole().vectors.values())))


def test_inputs_hold_small_parameters_and_read_large_ones_by_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    class Base(Drawn):
        def rows(self, name: str, start: int, stop: int) -> torch.Tensor:
            self.asked.append((stop - start, ()))
            return self.drawn(0, start, stop)

    class Vector(Drawn):
        where = "nowhere"
        fused: Groups = {}  # noqa: RUF012

        def changes(self, name: str) -> bool:
            return True

        def factors(self, name: str) -> None:
            return None

        def rows(self, name: str, start: int, stop: int, base: torch.Tensor) -> torch.Tensor:
            self.asked.append((stop - start, ()))
            return torch.full((stop - start, self.n), float("nan") if start else 1.0)

    base, vectors = Base(700, 140), {task: Vector(700, 140) for task in TASKS}
    inputs = Inputs(cast(Any, base), cast(Any, vectors), ("layer.weight",))
    monkeypatch.setattr("twin_merging.merging.inputs.HELD", 0)
    blocks = inputs.blocks("layer.weight")
    assert not base.asked
    assert blocks.read(0, 8, ["b"]).vectors.keys() == {"b"}
    assert [len(vector.asked) for vector in vectors.values()] == [0, 1, 0]
    with pytest.raises(UserError, match=r"nowhere: tensor 'layer.weight' holds NaN or infinity"):
        blocks.read(8, 16, ["b"])
    monkeypatch.setattr("twin_merging.merging.inputs.HELD", 4 * 700 * 140 * 4)
    for vector in vectors.values():
        vector.asked.clear()
    inputs.blocks("layer.weight")
    assert [vector.asked for vector in vectors.values()] == [[(700, ())]] * 3


def test_a_sum_that_overflows_is_refused_by_the_tensors_name() -> None:
    taus = [torch.full((200, 140), 3e38)] * 3
    with pytest.raises(UserError, match=r"tensor 'layer.weight': what is to be decomposed holds NaN or infinity"):
        iso_c(Blocks.of(parameter(taus)))


def test_a_wide_matrix_is_turned() -> None:
    taus = KINDS["noise"](150, 400)
    matrix = Tall(Blocks.of(parameter(taus, normal(150, 400, 5))))
    assert (matrix.m, matrix.n) == (400, 150)
    assert torch.equal(matrix.vectors(10, 20)[1], taus[1].T[10:20])
    assert torch.equal(matrix.plus(lambda start, stop: matrix.whole("a")[start:stop]), normal(150, 400, 5) + taus[0])


PEAK = """
import resource, torch
from tests.unit.test_subspaces import METHODS, Drawn
from twin_merging.merging import blocks
from twin_merging.merging.workers import one_thread_each
blocks.BLOCK = 2**18
tasks = ["a", "b", "c", "d"]
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
with one_thread_each():
    for m in (1000, {m}):  # the small one first, so that libraries are loaded
        before = peak()
        for method in METHODS.values():
            method(blocks.Blocks("w", (m, 256), tasks, Drawn(m, 256, tasks).read))
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux")
def test_no_whole_matrix_of_an_expert_is_in_memory() -> None:
    """The result takes 29 MiB in fp32, as the base and each expert do; one of them in fp64 would take 59 MiB."""
    run = subprocess.run([sys.executable, "-c", PEAK.format(m=30_000)], capture_output=True, text=True, check=True)
    result = 4 * 30_000 * 256 / 2**20
    assert float(run.stdout) < result + 25
