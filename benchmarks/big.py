"""Merging models of 7 billion parameters: time, memory, and bytes against what the disk itself can do.

    python benchmarks/big.py FOLDER [--model qwen2.5-7b] [--layers 28] [--own 2] [--threads 2]
                             [--runs task_arithmetic ties dare tsv_m compress] [--keep]

Makes a base and three experts of the model's true shapes in FOLDER (big_models.py; with 28 layers 15.2 GB a model).
Every run is a process of its own. Before it, what the system keeps of the files is dropped, so that all is read from
the disk. Memory is the largest sum of the proportional set sizes of the process and its workers. Bytes are those that
reached the disk, by /proc/PID/io. The disk's own speed is what dd reads and writes in the same folder just before.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from big_models import EXPERTS, MODELS, drop_from_cache, files, make
from memory import memory

RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "task_arithmetic": ("task_arithmetic", {"scaling": 0.3}),
    "ties": ("ties", {"density": 0.2}),
    "dare": ("dare", {"drop_rate": 0.7, "then": {"method": "task_arithmetic", "scaling": 0.3}}),
    "dare_ties": ("dare", {"drop_rate": 0.7, "then": {"method": "ties", "density": 0.3}}),
    "tsv_m": ("tsv_m", {}),
    "iso_c": ("iso_c", {}),
}
COMPRESS = "compress"  # of the first expert, against the merged model of task_arithmetic
RANK = 16
_GB = 10**9
_DD = 4 * _GB  # bytes that dd reads and writes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", choices=list(MODELS), default="qwen2.5-7b")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--own", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", nargs="+", choices=[*RUNS, COMPRESS], default=["task_arithmetic", "ties", "dare"])
    parser.add_argument("--keep", action="store_true", help="the checkpoints, for another call")
    parser.add_argument("--work", choices=[*RUNS, COMPRESS], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        _report(_work(given.work, given.folder, given.threads))
        return
    layers = given.layers or MODELS[given.model]["num_hidden_layers"]
    try:
        _all(given, layers)
    finally:
        shutil.rmtree(given.folder / "output", ignore_errors=True)
        if not given.keep:
            shutil.rmtree(given.folder, ignore_errors=True)


def _all(given: argparse.Namespace, layers: int) -> None:
    began = time.perf_counter()
    make(given.folder, given.model, layers, given.own)
    size = sum(file.stat().st_size for file in files(given.folder / "base"))
    print(f"{given.model}, {layers} layers, {size / _GB:.2f} GB a model, made in {time.perf_counter() - began:.0f} s")
    for run in given.runs:
        if run != COMPRESS:
            shutil.rmtree(given.folder / "output", ignore_errors=True)
        read, write = _disk(given.folder)
        drop_from_cache(given.folder)
        found = _measured(run, given)
        least = found["read"] / read + found["written"] / write
        print(
            f"{run}: {found['seconds']:.0f} s, {found['computed']:.0f} s of processors, "
            f"{found['peak'] / 2**30:.2f} GiB; read {found['read'] / _GB:.1f} GB (asked for "
            f"{found['asked'] / _GB:.1f}), written {found['written'] / _GB:.1f} GB; dd reads {read / 1e6:.0f} and "
            f"writes {write / 1e6:.0f} MB/s: {least:.0f} s for these bytes, {found['seconds'] / least:.2f} times that; "
            f"load {os.getloadavg()[0]:.1f}",
            flush=True,
        )


def _disk(folder: Path) -> tuple[float, float]:
    """Bytes a second that dd reads of the base, from the disk, and writes."""
    drop_from_cache(folder / "base")
    names, size = [], 0
    for file in files(folder / "base"):
        if size < _DD:
            names.append(file)
            size += file.stat().st_size
    began = time.perf_counter()
    for file in names:
        subprocess.run(["dd", f"if={file}", "of=/dev/null", "bs=4M"], check=True, capture_output=True)
    read = size / (time.perf_counter() - began)
    target, count = folder / "dd", max(1, min(size, _DD) // 2**22)
    began = time.perf_counter()
    try:
        subprocess.run(["dd", f"if={names[0]}", f"of={target}", "bs=4M", f"count={count}", "conv=fsync"],
                       check=True, capture_output=True)  # fmt: skip
        return read, target.stat().st_size / (time.perf_counter() - began)
    finally:
        target.unlink(missing_ok=True)


def _measured(run: str, given: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, __file__, str(given.folder), "--work", run, "--threads", str(given.threads)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        process, peak = psutil.Process(child.pid), 0
        while child.poll() is None:
            peak = max(peak, memory(process))
            time.sleep(0.2)
        said = (child.stdout.read() if child.stdout else "").splitlines()
    if child.returncode:
        sys.exit(f"{run} failed with {child.returncode}, at {peak / 2**30:.2f} GiB")
    return {**json.loads(said[-1]), "peak": peak}


# -- in the process that is measured


def _work(run: str, folder: Path, threads: int) -> Callable[[], Any]:
    from twin_merging import merge
    from twin_merging.checkpoints.groups import PROTOCOLS
    from twin_merging.checkpoints.opening import open_models
    from twin_merging.compression.compress import compress_vector
    from twin_merging.io.weights import open_directory
    from twin_merging.task_vectors.vectors import ExpertVector

    experts = {name: folder / name for name in EXPERTS}
    if run != COMPRESS:
        method, options = RUNS[run]
        return lambda: merge(
            method,
            base=folder / "base",
            experts=experts,
            output=folder / "output",
            threads=threads,
            record_hashes=False,
            **options,
        )

    def compress() -> None:
        start, opened = open_models(folder / "base", {"one": experts["one"]})
        compress_vector(
            task="one",
            base=start,
            vectors={"one": ExpertVector(opened["one"])},
            shared=open_directory(folder / "output"),
            sizes={"rank": RANK},
            protocol=PROTOCOLS["strict"],
            output=folder / "output" / "exclusive-one.safetensors",
        )

    return compress


def _report(work: Callable[[], Any]) -> None:
    import torch

    torch.zeros(1).add_(1)
    before, began = _io(), time.perf_counter()
    work()
    os.sync()
    seconds, after = time.perf_counter() - began, _io()
    own, workers = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    computed = own.ru_utime + own.ru_stime + workers.ru_utime + workers.ru_stime
    done = {name: after[name] - before[name] for name in after}
    print(json.dumps({"seconds": seconds, "computed": computed, "read": done["read_bytes"], "asked": done["rchar"],
                      "written": done["write_bytes"]}))  # fmt: skip


def _io() -> dict[str, int]:
    """What this process has read and written, and those of its workers that have ended."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return {name: int(number) for name, number in (line.split(": ") for line in lines)}


if __name__ == "__main__":
    main()
