"""What choosing options on validation rows gains on GLUE with MiniLM: fixed options beside chosen ones.

    python benchmarks/choose.py RUN FOLDER [--cores 2] [--output FILE.md]

RUN is a working folder in which the suite `minilm` has run at least to its experts (docs/results/minilm.md). Their
files are linked into FOLDER, where the methods below are merged, chosen and evaluated by this repository's workflow;
RUN stays as it is. Predictions of experts and of the pretrained model are taken from RUN where it has them.

Estimate for two cores, experts made: 45 candidates of 8 x 500 validation rows at 40 s of one core each (those of Twin
take about as long, since the router's pass is made once) are 30 minutes of one core, 15 to 20 minutes of two. The test
rows of the models take 6 minutes more, and the experts' cross table 11 where RUN has not predicted it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from tabulate import tabulate

from twin_merging.merging.choices import described
from twin_merging.reporting.choices import tried

ROOT = Path(__file__).resolve().parents[1]
SUITE = "minilm"
LINKED = ("base", "data", "experts", "task_vectors", "records")
METHODS = """methods:
  task-arithmetic: {method: task_arithmetic, scaling: 0.29}
  task-arithmetic-chosen:
    {method: task_arithmetic, scaling: {choose: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]}}
  ties: {method: ties, density: 0.1, scaling: 0.7}
  ties-chosen: {method: ties, density: {choose: [0.1, 0.2, 0.3, 0.5]}, scaling: {choose: [0.3, 0.5, 0.7, 1.0, 1.5]}}
  tsv-m: {method: tsv_m}
  tsv-m-chosen: {method: tsv_m, scaling: {choose: [0.4, 0.6, 0.8, 1.0, 1.2, 1.5]}}
  twin: {method: twin, shared: task-arithmetic, fraction: 0.1}
  twin-chosen:
    method: twin
    shared: task-arithmetic
    fraction: {choose: [0.05, 0.1, 0.2]}
    temperature: {choose: [0.5, 1.0, 2.0]}
"""
PAIRS = {f"{name}-chosen": name for name in ("task-arithmetic", "ties", "tsv-m", "twin")}


def prepare(run: Path, folder: Path) -> None:
    """Link what RUN has made of the experts, and write the suite with the methods above."""
    (folder / "config/suites").mkdir(parents=True)
    text = (run / f"config/suites/{SUITE}.yaml").read_text()
    (folder / f"config/suites/{SUITE}.yaml").write_text(text.partition("methods:\n")[0] + METHODS)
    source, target = run / "results" / SUITE, folder / "results" / SUITE
    target.mkdir(parents=True)
    for name in LINKED:
        subprocess.run(["cp", "-al", str(source / name), str(target / name)], check=True)
    (target / "predictions").mkdir()
    for file in [*source.glob("predictions/expert-*.parquet"), *source.glob("predictions/pretrained.parquet")]:
        os.link(file, target / "predictions" / file.name)


def report(folder: Path) -> str:
    """A line for each pair: both test averages, what was chosen, and what the choice took."""
    results = folder / "results"
    averages: Any = pd.read_csv(results / f"tables/{SUITE}.csv").set_index("model")["avg"]
    lines = []
    for chosen, fixed in PAIRS.items():
        choice = json.loads((results / SUITE / f"choices/{chosen}.json").read_text())
        took: Any = pd.read_csv(results / SUITE / f"benchmarks/choose/{chosen}.tsv", sep="\t")
        lines.append({
            "method": fixed,
            "fixed, test avg": averages[fixed],
            "chosen": described(choice["chosen"]),
            "of": tried(choice["options"]),
            "validation avg": choice["average"],
            "chosen, test avg": averages[chosen],
            "gain": averages[chosen] - averages[fixed],
            "candidates": len(choice["candidates"]),
            "minutes": took["s"][0] / 60,
            "peak MB": took["max_rss"][0],
        })  # fmt: skip
    return tabulate(lines, headers="keys", tablefmt="pipe", floatfmt=".2f")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cores", default="2")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    if not given.folder.exists():
        prepare(given.run, given.folder)
    # By times alone: experts stay, though code or library may have changed since they were made.
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        str(ROOT / "Snakefile"),
        "--directory",
        str(given.folder),
    ]
    command += ["--cores", given.cores, "--rerun-triggers", "mtime", "--", f"results/tables/{SUITE}.csv"]
    subprocess.run(command, check=True)
    text = report(given.folder)
    print(text)
    if given.output:
        given.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
