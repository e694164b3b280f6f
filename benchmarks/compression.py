"""Time and error of truncated decompositions, beside torch's full SVD, on matrices of RoBERTa-base's shapes.

    python benchmarks/compression.py [--threads 1] [--layers 4] [--ranks 8 76] [--output FILE.md]

One process. Every matrix is decomposed once by each: by us at each rank, by `torch.linalg.svd(full_matrices=True)` once
for all ranks. Times of --layers layers are scaled to 12. The word embedding's full U is 10 GB and takes many minutes:
its time is estimated as that of thin SVD, which is measured, and what full U costs beyond thin for its first 16384
rows, by the square of the rows. Thin SVD alone is a lower bound.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from twin_merging.compression.decompositions import decompose
from twin_merging.compression.exclusives import rank_of

LAYERS = 12
LAYER = {"attention": ((768, 768), 4), "up": ((3072, 768), 1), "down": ((768, 3072), 1)}
OTHERS = {"positions": (514, 768), "types": (1, 768)}
EMBEDDING = (50265, 768)


@dataclass
class Result:
    """Seconds of the layers and small embeddings, and of the word embedding; largest excess of the error."""

    body: float = 0.0
    embedding: float = 0.0
    excess: float = field(default=-math.inf)


def matrix_of(shape: tuple[int, int], spectrum: str, seed: int) -> torch.Tensor:
    """flat: normal noise. decaying: singular values 1 / sqrt(i), of which a tenth keeps two thirds of the energy."""
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    if spectrum == "flat":
        return noise
    least = min(shape)
    left = torch.linalg.qr(noise[:, :least]).Q
    right = torch.linalg.qr(torch.randn(shape[1], least, generator=torch.Generator().manual_seed(seed + 1))).Q
    return (left * torch.arange(1, least + 1).float().rsqrt()) @ right.T


def matrices(layers: int, spectrum: str) -> Iterator[tuple[torch.Tensor, float]]:
    """The layers' matrices and the small embeddings, each with how often its time counts."""
    for layer in range(layers):
        for number, (shape, count) in enumerate(LAYER.values()):
            for each in range(count):
                yield matrix_of(shape, spectrum, 1000 * layer + 10 * number + each), LAYERS / layers
    for number, shape in enumerate(OTHERS.values()):
        yield matrix_of(shape, spectrum, 10**6 + number), 1


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    found = function()
    return time.perf_counter() - began, found


def excess(matrix: torch.Tensor, found: Any, values: torch.Tensor, rank: int) -> float:
    """By what share a cut's Frobenius error is above that of the best cut of its rank; 0 where that error is 0."""
    error2 = sum(
        float((rows.double() - (U * found.S).double() @ found.V.double()).square().sum())
        for rows, U in zip(matrix.split(8192), found.U.split(8192), strict=True)
    )
    best2 = float(values.double()[rank:].square().sum())
    return math.sqrt(error2 / best2) - 1 if best2 > 1e-12 * float(values.double().square().sum()) else 0.0


def measure(layers: int, spectrum: str, ranks: list[int]) -> tuple[Result, dict[int, Result]]:
    """Torch's result (the word embedding by thin SVD), and ours by rank."""
    theirs, ours = Result(), {rank: Result() for rank in ranks}
    every = [(*pair, False) for pair in matrices(layers, spectrum)]
    every.append((matrix_of(EMBEDDING, spectrum, 10**7), 1, True))
    for matrix, count, embedding in every:
        seconds, (_, values, _) = timed(lambda m=matrix, e=embedding: torch.linalg.svd(m, full_matrices=not e))
        add(theirs, seconds * count, embedding)
        for rank, result in ours.items():
            # A rank of 76 is a fraction of 0.1 of 768: smaller matrices get the same fraction.
            kept = rank_of(*matrix.shape, {"fraction": rank / 768} if rank > 8 else {"rank": rank})
            seconds, found = timed(lambda m=matrix, r=kept: decompose(m, {"rank": r}))
            add(result, seconds * count, embedding)
            result.excess = max(result.excess, excess(matrix, found, values, kept))
        print(f"{spectrum} {tuple(matrix.shape)} done", file=sys.stderr)
    return theirs, ours


def add(result: Result, seconds: float, embedding: bool) -> None:
    if embedding:
        result.embedding += seconds
    else:
        result.body += seconds


def cost_of_full_u() -> float:
    """Estimated seconds that the word embedding's full U costs beyond the thin one."""
    rows = 16384
    part = matrix_of(EMBEDDING, "flat", 10**7)[:rows].contiguous()
    full, thin = (timed(lambda f=full: torch.linalg.svd(part, full_matrices=f).S)[0] for full in (True, False))
    return (full - thin) * (EMBEDDING[0] / rows) ** 2


def table(layers: int, ranks: list[int]) -> Iterator[str]:
    full_u = cost_of_full_u()
    yield (
        "| spectrum | rank | ours: layers, s | word embedding, s | torch, full: layers, s "
        "| word embedding, full (estimate) | word embedding, thin | ratio in sum | ... with the thin one "
        "| ... of the layers | largest excess error |"
    )
    yield "|---|" + "---:|" * 10
    for spectrum in ("flat", "decaying"):
        theirs, ours = measure(layers, spectrum, ranks)
        for rank, own in ours.items():
            mine = own.body + own.embedding
            cells = [spectrum, str(rank), f"{own.body:.2f}", f"{own.embedding:.2f}", f"{theirs.body:.2f}"]
            whole = theirs.embedding + full_u
            cells += [f"{whole:.1f}", f"{theirs.embedding:.2f}", f"{(theirs.body + whole) / mine:.1f}"]
            cells += [f"{(theirs.body + theirs.embedding) / mine:.1f}", f"{theirs.body / own.body:.1f}"]
            yield f"| {' | '.join([*cells, f'{100 * own.excess:.3f} %'])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--ranks", type=int, nargs="+", default=[8, 76])
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    decompose(matrix_of((768, 768), "flat", 0), {"rank": 8})  # so that no first call is measured
    lines = [f"torch {torch.__version__}, {platform.machine()}, {os.cpu_count()} cores; {given.threads} thread(s).", ""]
    text = "\n".join([*lines, *table(given.layers, given.ranks)])
    print(text)
    if given.output:
        given.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
