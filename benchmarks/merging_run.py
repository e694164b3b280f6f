"""One measured run, in a process of its own: imports first, then `ready`, then the work, then its seconds.

merging_run.py WHO METHOD KIND FOLDER OUTPUT      WHO: copy, dense, ours, ours-hashed
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dense
import torch
from synthetic import DTYPES, directories

from twin_merging import merge

BLOCK = 2**20
OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "weight_average": ("weight_average", {}),
    "task_arithmetic": ("task_arithmetic", {"scaling": 0.3}),
    "ties": ("ties", {"density": 0.2}),
    "dare_task_arithmetic": ("dare", {"drop_rate": 0.7, "then": {"method": "task_arithmetic", "scaling": 0.3}}),
    "dare_ties": ("dare", {"drop_rate": 0.7, "then": {"method": "ties", "density": 0.3}}),
    "breadcrumbs": ("breadcrumbs", {}),
    "della": ("della", {}),
    "model_stock": ("model_stock", {}),
    "consensus": ("consensus", {}),
    "fr_merging": ("fr_merging", {}),
    "emr": ("emr", {}),
    "tall_masks": ("tall_masks", {}),
    "tsv_m": ("tsv_m", {}),
    "iso_c": ("iso_c", {}),
    "iso_cts": ("iso_cts", {}),
    "wudi": ("wudi", {}),
}


def copy(base: Path, experts: list[Path], output: Path) -> None:
    """Read every input's bytes; write as many as one model has, and wait for the disk."""
    buffer = bytearray(BLOCK)
    size = 0
    for directory in (base, *experts):
        for file in sorted(directory.glob("*.safetensors")):
            size += file.stat().st_size if directory == base else 0
            with open(file, "rb", buffering=0) as stream:
                while stream.readinto(buffer):
                    pass
    output.mkdir(parents=True)
    with open(output / "model.safetensors", "wb", buffering=0) as stream:
        while size > 0:
            size -= stream.write(memoryview(buffer)[: min(BLOCK, size)])
        os.fsync(stream.fileno())


def work(who: str, method: str, kind: str, folder: Path, output: Path) -> Callable[[], Any]:
    base, experts = directories(kind, folder)
    paths = list(experts.values())
    if who == "copy":
        return lambda: copy(base, paths, output)
    if who == "dense":
        return lambda: dense.merge(method, base, paths, output, DTYPES[kind])
    name, options = OPTIONS[method]
    hashes = who == "ours-hashed"
    return lambda: merge(name, base=base, experts=experts, output=output, record_hashes=hashes, **options)


def main(who: str, method: str, kind: str, folder: str, output: str) -> None:
    run = work(who, method, kind, Path(folder), Path(output))
    torch.zeros(1).add_(1)
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    run()
    print(time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
