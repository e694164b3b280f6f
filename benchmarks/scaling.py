"""What suites of other sizes would take, by the same code as a job's resources: model size x number of tasks.

    python -m benchmarks.scaling [--gpus 1]

Encoders and language models from the Hub, whole experts or LoRA adapters (rank 32), the methods task arithmetic, Ties,
TSV-M and Twin-Merging (rank 32); 1,000 test and 1,000 router rows a task.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from twin_merging.io.sizes import human_bytes
from twin_merging.plan.estimate import estimate
from twin_merging.suite.suite import Suite, load_suite

TASKS = (8, 20, 100)
# name, family, bytes of the base, LoRA experts
MODELS = (
    ("RoBERTa-base, 125M, whole", "encoder", "499MB", False),
    ("7.6B in bf16, whole", "decoder", "15.2GB", False),
    ("7.6B in bf16, LoRA", "decoder", "15.2GB", True),
    ("14.2B in bf16, LoRA", "decoder", "28.3GB", True),
    ("14.2B in bf16, whole", "decoder", "28.3GB", False),
    ("70.6B in bf16, LoRA", "decoder", "141GB", True),
    ("70.6B in bf16, whole", "decoder", "141GB", False),
)
METHODS = {
    "sum": {"method": "task_arithmetic", "scaling": 0.3},
    "ties": {"method": "ties"},
    "tsv-m": {"method": "tsv_m"},
    "twin": {"method": "twin", "shared": "sum", "rank": 32},
}
COLUMNS = ("task_vectors", "merge", "compress", "route_features", "predict")


def suite(folder: Path, family: str, size: str, lora: bool, tasks: int) -> Suite:
    """A suite of so many tasks on a base of that size."""
    decoder = family == "decoder"
    asked = {"prompt": "{text}", "target": "reply", "metric": "exact_match", "generation": {"max_new_tokens": 5}}
    task: dict[str, Any] = asked if decoder else {"text": ["text"], "labels": 2, "metric": "accuracy"}
    expert = {"hub": {"repo": "a/expert", "adapter": lora}}
    task |= {"data": {"hub": {"repo": "a/data"}, "size": "20MB"}, "expert": expert}
    content = {
        "title": "A suite of another size",
        "family": family,
        "protocol": "strict",
        "base": {"hub": {"repo": "a/base"}, "size": size, "dtype": "bfloat16" if decoder else "float32"},
        "limits": {"router": 1000, "validation": 200, "test": 1000},
        "inference": {"max_length": 1024 if decoder else 128, "batch_size": 8 if decoder else 64},
        "tasks": {f"t{number}": task for number in range(tasks)},
        "methods": METHODS,
    }
    file = folder / f"{family}.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return load_suite(file)


def table(gpus: int) -> Iterator[str]:
    names = "".join(f" {name}: GiB, hours |" for name in COLUMNS)
    yield f"| model and experts | tasks | to fetch | disk |{names} all jobs, hours |"
    yield f"|---|---:|---:|---:|{'---:|' * len(COLUMNS)}---:|"
    with tempfile.TemporaryDirectory() as folder:
        for name, family, size, lora in MODELS:
            for tasks in TASKS:
                found = estimate(suite(Path(folder), family, size, lora, tasks), gpus=gpus)
                rules = {rule["rule"].removesuffix("_decoder"): rule for rule in found["rules"]}
                asked = [
                    f"{rules[rule]['mem_mb'] / 1024:.1f}, {rules[rule]['expected'] / rules[rule]['jobs']:.2f}"
                    for rule in COLUMNS
                ]
                cells = [name, tasks, human_bytes(found["fetched"]), human_bytes(found["disk"]["total"]), *asked]
                yield f"| {' | '.join(map(str, cells))} | {found['jobs']['expected']:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpus", type=int, default=0)
    print("\n".join(table(parser.parse_args().gpus)))


if __name__ == "__main__":
    main()
