"""TSV-M and Iso-C by Gram matrices, beside SVDs of whole matrices in fp64: time, and how far the results differ.

    python benchmarks/decompositions.py [--experts 8] [--spectra flat bulk] [--large ROWS COLUMNS] [--output FILE.md]

One process, one thread: the times are seconds of one core, and jobs on several cores share the matrices. Of each shape
of RoBERTa-base one matrix is merged in both ways, one after the other, and counts as often as the model has it. The
error is the norm of the difference of the merged changes, as a share of the change's norm, the largest of all shapes.
--large: one more matrix, merged our way alone, and the memory that it takes.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from compression import matrix_of
from merging import machine

from twin_merging.merging.blocks import Blocks, Tall
from twin_merging.merging.matrices import mean_of
from twin_merging.merging.registry import Parameter
from twin_merging.merging.subspaces import isotropic, merged_subspaces
from twin_merging.merging.workers import one_thread_each

# How often RoBERTa-base has a matrix of each shape: attention, up, down, positions, words. (head: its language-model's)
SHAPES = {(768, 768): 49, (3072, 768): 12, (768, 3072): 12, (514, 768): 1, (50265, 768): 1}


def parameter(shape: tuple[int, int], spectrum: str, experts: int) -> Parameter:
    """noise: task vectors of normal noise, the worst case. decaying: singular values 1 / sqrt(i). bulk: a part of low
    rank in noise, as fine-tuning leaves it."""
    vectors = {}
    for number in range(experts):
        if spectrum == "bulk":
            noise = matrix_of(shape, "flat", 100 + number)
            left, right = (torch.linalg.qr(matrix_of((side, 32), "flat", number)).Q for side in shape)
            tau = 3 * noise.norm() / 10 * (left * torch.arange(1, 33).float().reciprocal()) @ right.T + noise
        else:
            tau = matrix_of(shape, spectrum, 100 * number)
        vectors[f"expert{number}"] = 1e-3 * tau
    return Parameter("weight", torch.zeros(shape), vectors, shape)


def thin(matrix: torch.Tensor, rank: int | None = None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The singular triples that are not zero, at most the first `rank` ones, by an SVD of the whole matrix in fp64."""
    U, S, V = torch.linalg.svd(matrix.double(), full_matrices=False)
    kept = int((S[0] * max(matrix.shape) * torch.finfo(torch.float32).eps < S).sum())
    kept = kept if rank is None else min(kept, rank)
    return U[:, :kept], S[:kept], V[:kept]


def tsv_m_before(given: Parameter) -> torch.Tensor:
    vectors = list(given.vectors.values())
    triples = [thin(vector, min(given.shape) // len(vectors)) for vector in vectors]
    U, S, V = (torch.cat(parts, dim) for parts, dim in zip(zip(*triples, strict=True), (1, 0, 0), strict=True))
    (left, _, right), (other, _, last) = thin(U), thin(V)
    return (left @ right * S) @ (other @ last)


def iso_c_before(given: Parameter) -> torch.Tensor:
    U, S, V = thin(mean_of(list(given.vectors.values())).double() * len(given.vectors))
    return S.mean() * (U @ V)


def tsv_m_now(given: Parameter) -> torch.Tensor:
    matrix = Tall(Blocks.of(given))
    return _whole(matrix, merged_subspaces(matrix, matrix.n // len(matrix.tasks)))


def iso_c_now(given: Parameter) -> torch.Tensor:
    matrix = Tall(Blocks.of(given))

    def summed(start: int, stop: int) -> torch.Tensor:
        return mean_of(matrix.vectors(start, stop)).double() * len(given.vectors)

    return _whole(matrix, isotropic(matrix, summed))


def _whole(matrix: Tall, change: Callable[[int, int], torch.Tensor] | None) -> torch.Tensor:
    assert change is not None
    found = torch.cat([change(*part) for part in matrix.bounds()])
    return found.T if matrix.is_turned else found


WAYS = {"tsv_m": (tsv_m_before, tsv_m_now), "iso_c": (iso_c_before, iso_c_now)}


def timed(way: Callable[[Parameter], torch.Tensor], given: Parameter) -> tuple[float, torch.Tensor]:
    """Seconds of this process's own work (not what it waits for), and the result."""
    began = time.process_time()
    found = way(given)
    return time.process_time() - began, found


def rows(spectra: list[str], experts: int) -> Iterator[str]:
    yield "| method | task vectors | shape | times | before, s | now, s | before / now | error |"
    yield "|---|---|---|---:|---:|---:|---:|---:|"
    for spectrum in spectra:
        sums = {method: [0.0, 0.0, 0.0] for method in WAYS}
        for shape, count in SHAPES.items():
            given = parameter(shape, spectrum, experts)
            for method, (before, now) in WAYS.items():
                (old, wanted), (new, found) = timed(before, given), timed(now, given)
                error = float((found - wanted).norm() / wanted.norm())
                total = sums[method]
                sums[method] = [total[0] + count * old, total[1] + count * new, max(total[2], error)]
                yield _row(method, spectrum, " x ".join(map(str, shape)), count, old, new, error)
        for method, (old, new, error) in sums.items():
            yield _row(f"**{method}**", spectrum, "all", sum(SHAPES.values()), old, new, error)


def _row(method: str, spectrum: str, shape: str, count: int, old: float, new: float, error: float) -> str:
    return f"| {method} | {spectrum} | {shape} | {count} | {old:.2f} | {new:.2f} | {old / new:.1f} | {error:.0e} |"


def large(shape: tuple[int, int], experts: int) -> str:
    """One large matrix by TSV-M, read by blocks of rows that are drawn as they are read."""
    block = {
        seed: torch.randn(4096, shape[1], generator=torch.Generator().manual_seed(seed)) for seed in range(experts)
    }
    tasks = [f"expert{number}" for number in range(experts)]

    def read(start: int, stop: int, asked: tuple[str, ...]) -> Parameter:
        def drawn(seed: int) -> torch.Tensor:
            """Rows of its own for every place: those of one block, with other signs of the columns."""
            signs = torch.randn(shape[1], generator=torch.Generator().manual_seed(10**6 * seed + start)).sign()
            return (block[seed] * signs).repeat(-(-(stop - start) // 4096), 1)[: stop - start]

        vectors = {task: drawn(number) for number, task in enumerate(tasks) if task in asked}
        return Parameter("weight", torch.zeros(stop - start, shape[1]), vectors, shape, start)

    matrix = Tall(Blocks("weight", shape, tasks, read))
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    change = merged_subspaces(matrix, matrix.n // experts)
    assert change is not None
    matrix.plus(change)
    seconds = time.process_time() - began
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    held = 4 * shape[0] * shape[1] / 2**20
    return (f"TSV-M of one {shape[0]} x {shape[1]} matrix of {experts} experts, read by blocks: {seconds:.0f} s of one "
            f"core, {memory:.0f} MiB, of which the result is {held:.0f} MiB.")  # fmt: skip


def tables(given: argparse.Namespace) -> Iterator[str]:
    yield machine(None)
    yield ""
    if given.large:
        yield large((given.large[0], given.large[1]), given.experts)
        yield ""
    if given.spectra:
        yield from rows(given.spectra, given.experts)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--experts", type=int, default=8)
    parser.add_argument("--spectra", nargs="*", choices=["flat", "decaying", "bulk"], default=["flat", "bulk"])
    parser.add_argument("--large", nargs=2, type=int, metavar=("ROWS", "COLUMNS"))
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    lines = []
    with one_thread_each():
        for line in tables(given):
            print(line, flush=True)
            lines.append(line)
    if given.output:
        given.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
