"""What the number formats of exclusive vectors cost in error and take in bytes, and what groups of other sizes would.

    python benchmarks/number_formats.py results/quickstart/exclusive/task-arithmetic --fraction 0.1

reads the exclusive files of a folder and prints a line for each format. Errors are of the product U S V of all matrices
of all tasks together, in percent of a norm: `rounding` of the cut vector's, `whole` of the difference's before the cut
(the cut's own error with it). The last lines are float32 at the rank that has the bytes of int8 and of int4.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import torch

from twin_merging.compression import numbers
from twin_merging.compression.exclusives import Decomposition, Exclusive
from twin_merging.compression.numbers import dequantise, quantise

Rounded = tuple[torch.Tensor, int]  # what is read again, and the bytes that it takes
GROUPS = (16, 32, 64, 128, 1 << 30)


def rounding(store: str, group: int) -> Callable[[torch.Tensor], Rounded]:
    def rounded(rows: torch.Tensor) -> Rounded:
        if store == "float32":
            return rows, 4 * rows.numel()
        if store == "bfloat16":
            return rows.bfloat16().float(), 2 * rows.numel()
        numbers.GROUP = min(group, rows.shape[1] + rows.shape[1] % 2)
        stored = quantise(rows, store)
        return dequantise(stored, store), sum(part.numel() * part.itemsize for part in stored)

    return rounded


def squared_error(found: Decomposition, rounded: Callable[[torch.Tensor], Rounded]) -> tuple[float, int]:
    """|U S V - its rounded factors|^2, from Gram matrices of the factors side by side; and the bytes."""
    up = (found.U * found.S).T.contiguous()
    (one, more), (two, rest) = rounded(up), rounded(found.V)
    left, right = torch.cat([up, one]).double(), torch.cat([found.V, -two]).double()
    return max(0.0, float(((left @ left.T) * (right @ right.T)).sum())), more + rest


def measured(files: list[Path], fraction: float, store: str, group: int = numbers.GROUP) -> tuple[float, float, int]:
    """Errors of rounding and of the whole, in percent, and bytes."""
    error = kept = total = 0.0
    size = 0
    for file in files:
        exclusive = Exclusive(file, {"fraction": fraction})
        for name in exclusive.matrices:
            found = exclusive.matrix(name)
            own, more = squared_error(found, rounding(store, group))
            error, size, total = error + own, size + more, total + found.norm2
            kept += float(found.S.double().square().sum())
    return 100 * math.sqrt(error / kept), 100 * math.sqrt((total - kept + error) / total), size


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--fraction", type=float, default=0.1)
    given = arguments.parse_args()
    files = sorted(given.folder.glob("*.safetensors"))
    print(f"{'format':24} {'group':>9} {'bytes':>12} {'of float32':>10} {'rounding %':>10} {'whole %':>8}")
    plain = measured(files, given.fraction, "float32")[2]

    def line(store: str, group: int, fraction: float) -> None:
        error, whole, size = measured(files, fraction, store, group)
        name = store if fraction == given.fraction else f"{store}, fraction {fraction:g}"
        words = "" if store not in numbers.LARGEST else "component" if group > 1e6 else str(group)
        print(f"{name:24} {words:>9} {size:12} {size / plain:10.3f} {error:10.3f} {whole:8.2f}")

    line("float32", 64, given.fraction)
    line("bfloat16", 64, given.fraction)
    for store in ("int8", "int4"):
        for group in GROUPS:
            line(store, group, given.fraction)
    for share in (4, 8):
        line("float32", 64, given.fraction / share)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
