"""How long a suite's finished models take for a batch, by what their routers read, against the shared model's own pass.

    python benchmarks/router_passes.py config/suites/minilm.yaml twin-oracle twin twin-paper [--rows 32] [--rounds 9]

The models have to be there (results/SUITE/models). The first one named answers with the true task's weights, so it has
no router; the times of the others are told as ratios to it and to the shared model's pass. Rows are the first
validation rows of each task in turn. All models run in turn, in rounds; a figure is the median of the rounds' ratios.
MB are those of the router's files in the model's folder.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import AutoTokenizer

from twin_merging.model.twin import TwinModel
from twin_merging.suite.suite import Suite, load_suite


def rows_of(suite: Suite, count: int) -> list[tuple[str, tuple[str, ...]]]:
    """The task and the texts of rows, each task's first ones in turn."""
    folder = Path("results", suite.name, "data")
    tables = {task: pd.read_parquet(folder / task / "validation.parquet") for task in suite.tasks}
    found = []
    for number in range(count):
        task = list(tables)[number % len(tables)]
        row = tables[task].iloc[number // len(tables)]
        found.append((task, tuple(str(row[column]) for column in suite.tasks[task].columns)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", type=Path)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(1)
    suite = load_suite(options.suite)
    folder = Path("results", suite.name, "models")
    rows = rows_of(suite, options.rows)
    tasks, texts = [task for task, _ in rows], [list(own) for _, own in rows]
    tokenizer = AutoTokenizer.from_pretrained(Path("results", suite.name, "base"))
    pairs = [own[0] if len(own) == 1 else tuple(own) for own in texts]
    length = suite.says.inference.max_length
    encoded = [tokenizer(*own, truncation=True, max_length=length) for own in texts]
    batch: Any = tokenizer.pad(encoded, return_tensors="pt")
    models: dict[str, Any] = {name: TwinModel.from_pretrained(folder / name) for name in options.models}
    shared = models[options.models[0]].body
    times: dict[str, list[float]] = {name: [] for name in ["shared", *models]}
    with torch.inference_mode():
        for round_ in range(options.rounds + 1):
            for name in times:
                start = time.perf_counter()
                if name == "shared":
                    shared(**batch)
                else:
                    models[name](**batch, tasks=tasks, texts=pairs)
                if round_:  # the first is for warming up
                    times[name].append(time.perf_counter() - start)
    print(f"{options.rows} rows, {batch['input_ids'].shape[1]} tokens, one thread; {options.rounds} rounds")
    print("| model | reads | / shared pass | / true weights | router, MB |")
    print("|---|---|---:|---:|---:|")
    for name, model in models.items():
        ratios = [
            statistics.median(own / other for own, other in zip(times[name], times[against], strict=True))
            for against in ("shared", options.models[0])
        ]
        router = folder / name / "router"
        size = sum(path.stat().st_size for path in router.rglob("*") if path.is_file()) if router.is_dir() else 0
        reads = getattr(model.router, "features", "")
        print(f"| {name} | {reads} | {ratios[0]:.2f} | {ratios[1]:.2f} | {size / 1e6:.1f} |")


if __name__ == "__main__":
    main()
