"""How much of what a shared expert lacks of the experts is kept at a rank, by shared expert.

    python benchmarks/energy.py config/suites/minilm.yaml task-arithmetic ties tsv-m [--ranks 1 4 16 38]

The energy of a task is the sum over all matrices of the squared singular values of theta_t - theta_s, and what is kept
is the share of the largest `rank` of each matrix. A figure is the mean over tasks. The last column has the size of
theta_t - theta_s beside that of tau_t. The suite's task vectors and merged models have to be there (results/SUITE).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from twin_merging.io.tensors import Checkpoint
from twin_merging.io.weights import open_directory
from twin_merging.suite.suite import load_suite


def values_of(matrix: torch.Tensor) -> torch.Tensor:
    """Squared singular values, largest first."""
    small = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    wide = small.double()
    return torch.linalg.eigvalsh(wide @ wide.T).flip(0).clamp(min=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", type=Path)
    parser.add_argument("shared", nargs="+")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 4, 16, 38])
    options = parser.parse_args()
    torch.set_num_threads(1)
    suite = load_suite(options.suite)
    results = Path("results", suite.name)
    base = open_directory(results / "base")
    vectors = {task: Checkpoint(results / "task_vectors" / f"{task}.safetensors") for task in suite.tasks}
    ranks = " | ".join(f"rank {rank}" for rank in options.ranks)
    print(f"| shared expert | {ranks} | size / tau |\n|---|{'---:|' * (len(options.ranks) + 1)}")
    for name in options.shared:
        shared = Checkpoint(results / "models" / name / "model.safetensors")
        kept = torch.zeros(len(options.ranks), dtype=torch.float64)
        sizes = 0.0
        for vector in vectors.values():
            total, own, found = 0.0, 0.0, torch.zeros_like(kept)
            for parameter in vector:
                if len(vector.shape(parameter)) != 2 or parameter not in shared:
                    continue
                tau = vector[parameter].double()
                values = values_of(base[parameter].double() + tau - shared[parameter].double())
                total, own = total + float(values.sum()), own + float(tau.square().sum())
                found += torch.tensor([float(values[:rank].sum()) for rank in options.ranks])
            kept += found / total / len(vectors)
            sizes += (total / own) ** 0.5 / len(vectors)
        shares = " | ".join(f"{float(share):.3f}" for share in kept)
        print(f"| {name} | {shares} | {sizes:.2f} |", flush=True)


if __name__ == "__main__":
    main()
