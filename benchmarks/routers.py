"""How often routers find the task of held-out rows, by what they read, as written and with normalised texts.

    python benchmarks/routers.py config/suites/minilm.yaml [--layer 3] [--rows 1500] [--hidden 256]

The suite's base and data have to be there (results/SUITE). Nothing is merged: hidden states are the base's. A text is
normalised by lower case, with every run of characters that are neither letters nor digits as one space; tokenisation
and casing then tell nothing. Each router is made from the first `--rows` train rows of a task and measured on its
validation rows; no test row is read. Seconds are those of making the router from its features.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from twin_merging.io.files import read_json
from twin_merging.io.tensors import Checkpoint, save_tensors
from twin_merging.routing.features import extract_features
from twin_merging.routing.layers import features_name
from twin_merging.routing.training import make_router
from twin_merging.suite.suite import Suite, load_suite
from twin_merging.tasks.families import family_named

MLP = {"kind": "mlp", "epochs": 50, "batch_size": 1024, "learning_rate": 5e-4, "weight_decay": 0.01, "dropout": 0.5}
BESIDE: list[dict[str, bool]] = [{}, {"segments": True}, {"text": True}, {"segments": True, "text": True}]


def normalised(text: str) -> str:
    """A text without casing, marks and spacing."""
    return re.sub(r"[\W_]+", " ", text.lower()).strip()


def write_normalised(suite: Suite, data: Mapping[str, Path], to: Path) -> dict[str, Path]:
    """Copies of the train and validation rows with normalised texts."""
    for task, folder in data.items():
        (to / task).mkdir()
        for split in ("train", "validation"):
            rows = pd.read_parquet(folder / f"{split}.parquet")
            columns = {column: rows[column].astype(str).map(normalised) for column in suite.tasks[task].columns}
            rows.assign(**columns).to_parquet(to / task / f"{split}.parquet", index=False)
    return {task: to / task for task in data}


def extract(suite: Suite, data: Mapping[str, Path], features: Any, rows: int, output: Path) -> Path:
    family = family_named(suite.family)
    told = {task: suite.tasks[task].read_as() for task in data}
    extract_features(
        shared=Path("results", suite.name, "base"),
        data=data,
        tasks=family.views(family.inputs, told, data),
        limits={"router": rows, "validation": suite.says.limits.validation},
        inference={"max_length": suite.says.inference.max_length, "batch_size": suite.says.inference.batch_size},
        features=features,
        output=output,
    )
    return output


def mixed(train: Path, held_out: Path, output: Path) -> Path:
    """A file with the train rows of one file and the validation rows of another."""
    one, two = Checkpoint(train), Checkpoint(held_out)
    save_tensors(output, {name: (two if "/validation" in name else one)[name] for name in one})
    return output


def measured(settings: Mapping[str, Any], file: Path, tasks: list[str], work: Path) -> dict[str, Any]:
    start = time.perf_counter()
    make_router(
        features=file, tasks=tasks, settings=settings, seed=0, output=work / "router", metrics=work / "metrics.json"
    )
    seconds = time.perf_counter() - start
    return {**read_json(work / "metrics.json"), "seconds": seconds, "bytes": (work / "router").stat().st_size}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", type=Path)
    parser.add_argument("--layer", type=int, default=3)
    parser.add_argument("--rows", type=int, default=1500)
    parser.add_argument("--hidden", type=int, default=256, help="width of the mlp's hidden layers")
    parser.add_argument("--kinds", nargs="*", default=["mahalanobis", "mlp"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    suite = load_suite(options.suite)
    data = {task: Path("results", suite.name, "data", task) for task in suite.tasks}
    tasks = list(data)
    print("| reads | kind | held out | its calibration error | normalised texts | trained on normalised too | s | MB |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / "data").mkdir()
        plain = write_normalised(suite, data, work / "data")
        for beside in BESIDE:
            features = {"layer": options.layer, **beside}
            written = extract(suite, data, features, options.rows, work / "written")
            other = extract(suite, plain, features, options.rows, work / "other")
            files = [written, mixed(written, other, work / "mixed"), other]
            for kind in options.kinds:
                own = {**MLP, "hidden_size": options.hidden} if kind == "mlp" else {"kind": kind}
                found = [measured({**own, "features": features}, file, tasks, work) for file in files]
                accuracy = [100 * one["held_out_accuracy"] for one in found]
                first = found[0]
                print(
                    f"| {features_name({'of': 'base', **features})} | {kind} | {accuracy[0]:.1f} | "
                    f"{100 * first['expected_calibration_error']:.1f} | {accuracy[1]:.1f} | {accuracy[2]:.1f} | "
                    f"{first['seconds']:.0f} | {first['bytes'] / 1e6:.1f} |",
                    flush=True,
                )
                print("   ", {task: round(100 * value, 1) for task, value in first["accuracy"].items()}, flush=True)


if __name__ == "__main__":
    main()
