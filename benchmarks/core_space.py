"""Core space beside product space: one matrix of a model of 1.5B, merged from LoRA experts, in one thread.

    OMP_NUM_THREADS=1 python benchmarks/core_space.py [--shape 8960 1536] [--rank 32] [--experts 4] [--methods ties]

Both ways begin with the factors in memory and end with the whole merged matrix in memory. Seconds are the processor's.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from typing import Any

import torch

from twin_merging.checkpoints.adapters import Factors
from twin_merging.merging.body import prepared
from twin_merging.merging.cores import core_space
from twin_merging.merging.inputs import Inputs
from twin_merging.merging.options import complete_options
from twin_merging.merging.registry import merging_methods
from twin_merging.merging.workers import one_thread_each

NAME = "model.layers.0.mlp.up_proj.weight"


@dataclass
class Base:
    matrix: torch.Tensor

    def rows(self, name: str, start: int, stop: int) -> torch.Tensor:
        return self.matrix[start:stop]

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.matrix.shape)


@dataclass
class Adapter:
    own: Factors
    where: str = "here"

    @property
    def fused(self) -> dict[str, Any]:
        return {}

    def factors(self, name: str) -> Factors | None:
        return self.own

    def changes(self, name: str) -> bool:
        return True

    def rows(self, name: str, start: int, stop: int, base: torch.Tensor) -> torch.Tensor:
        return self.own.rows(start, stop)


def adapter(shape: tuple[int, int], rank: int, seed: int) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    down = torch.randn(rank, shape[1], generator=generator) / shape[1] ** 0.5
    return Adapter(Factors(down, 0.01 * torch.randn(shape[0], rank, generator=generator), 2.0))


def products(name: str, options: dict[str, Any], inputs: Inputs) -> torch.Tensor:
    method = merging_methods()[name]
    compute, settle = prepared(method, options, inputs)
    found = {rows: compute(rows) for rows in inputs.chunks(method.whole)}
    for rows in settle([(rows, note) for rows, (_, note) in found.items() if note]):
        found[rows] = compute(rows)
    return torch.cat([value for value, _ in found.values()])


def cores(name: str, options: dict[str, Any], inputs: Inputs) -> torch.Tensor:
    within, (matrix,) = core_space(inputs)
    change = matrix.change(products(name, options, within))
    return inputs.base.rows(NAME, 0, change.shape[0]) + change.product()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", nargs=2, type=int, default=[8960, 1536])
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--experts", type=int, default=4)
    parser.add_argument("--methods", nargs="+", default=["task_arithmetic", "ties", "tsv_m", "iso_c"])
    given = parser.parse_args()
    shape = (given.shape[0], given.shape[1])
    base = Base(torch.randn(shape, generator=torch.Generator().manual_seed(99)) * 0.02)
    vectors = {f"task{seed}": adapter(shape, given.rank, seed) for seed in range(given.experts)}
    inputs = Inputs(base, vectors, (NAME,))
    print(f"{shape[0]} x {shape[1]}, {given.experts} adapters of rank {given.rank}")
    for name in given.methods:
        options = complete_options(merging_methods()[name], {}, list(vectors), 0)
        options.pop("lora_space")
        found, seconds = [], []
        with one_thread_each():
            for way in (cores, products):
                start = time.process_time()
                found.append(way(name, options, inputs))
                seconds.append(time.process_time() - start)
        core, product = (one - base.matrix for one in found)
        difference = float((core - product).abs().max() / product.abs().max())
        print(
            f"{name:16} core {seconds[0]:7.2f} s  products {seconds[1]:7.2f} s  {seconds[1] / seconds[0]:6.1f} x  "
            f"largest difference {difference:.1e} of the largest change",
            flush=True,
        )


if __name__ == "__main__":
    main()
