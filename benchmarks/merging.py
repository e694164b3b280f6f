"""Time and memory of merging, beside a copy of the same files, a plain implementation, and mergekit.

    python benchmarks/merging.py FOLDER [--kinds encoder decoder] [--methods ties ...] [--repeats 3]
                                 [--mergekit PYTHON] [--output FILE.md]

Makes synthetic checkpoints in FOLDER where they are missing (encoder: 4.5 GB; decoder: 12.4 GB). Every run is a process
of its own that imports its libraries before it is timed. The input is in the page cache. Memory is the largest
proportional set size of the process and its children, less that before the work, in a run of its own: looking at it
may slow a process down. PYTHON: an interpreter of an environment with mergekit.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
import yaml
from memory import memory
from merging_run import OPTIONS
from synthetic import DTYPES, directories, make, size_of

from twin_merging import __version__

HERE = Path(__file__).parent
SLOW = ("tsv_m", "iso_c", "iso_cts", "wudi")
# mergekit's names and options of the same merges.
MERGEKIT = {
    "weight_average": ("linear", {"weight": 1.0}, {}),
    "task_arithmetic": ("task_arithmetic", {"weight": 0.3}, {}),
    "ties": ("ties", {"weight": 1.0, "density": 0.2}, {"normalize": True}),
    "dare_ties": ("dare_ties", {"weight": 1.0, "density": 0.3}, {}),
}
# The decoder's four state dicts in fp32 are 25 GB: more than the machine that this was written on has.
DENSE = {"encoder": ("weight_average", "task_arithmetic", "ties", "dare_task_arithmetic", "dare_ties"), "decoder": ()}


@dataclass(frozen=True)
class Cost:
    """Seconds, and MiB above the interpreter's own."""

    seconds: float
    memory: float


def measured(command: list[str], output: Path, watch: bool) -> Cost | None:
    """One run; None when it fails (its last line goes to standard error). watch: for its memory, not for its time."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdin
        assert run.stdout
        while (line := run.stdout.readline()) and line.strip() != "ready":
            pass
        process, before, peak = psutil.Process(run.pid), 0, 0
        if line and watch:
            before = peak = memory(process)
        errors: list[str] = []
        reader = threading.Thread(target=lambda: errors.extend(run.stderr or []), daemon=True)
        reader.start()
        run.stdin.write("\n")
        run.stdin.flush()
        done: list[str] = []
        waiter = threading.Thread(target=lambda: done.extend(run.stdout or []), daemon=True)
        waiter.start()
        while watch and waiter.is_alive():
            peak = max(peak, memory(process))
            time.sleep(0.03)
        waiter.join()
    shutil.rmtree(output, ignore_errors=True)
    numbers = [text for text in done if text.strip().replace(".", "", 1).isdigit()]
    if run.returncode or not numbers:
        print(f"failed: {' '.join(command)}: {errors[-1].strip() if errors else ''}", file=sys.stderr)
        return None
    return Cost(float(numbers[-1]), (peak - before) / 2**20)


def commands(who: str, method: str, kind: str, folder: Path, mergekit: str | None) -> list[str] | None:
    """How to run one merge; None where nobody has it."""
    output = str(folder / "output")
    if who != "mergekit":
        return [sys.executable, str(HERE / "merging_run.py"), who, method, kind, str(folder), output]
    if mergekit is None or method not in MERGEKIT:
        return None
    name, own, whole = MERGEKIT[method]
    base, experts = directories(kind, folder)
    config = {
        "merge_method": name,
        "models": [{"model": str(path), "parameters": own} for path in experts.values()],
        "dtype": str(DTYPES[kind]).removeprefix("torch."),
        **({"parameters": whole} if whole else {}),
        **({} if name == "linear" else {"base_model": str(base)}),
    }
    (folder / "mergekit.yaml").write_text(yaml.safe_dump(config))
    return [mergekit, str(HERE / "with_mergekit.py"), str(folder / "mergekit.yaml"), output]


def best(who: str, method: str, kind: str, folder: Path, mergekit: str | None, repeats: int) -> Cost | None:
    """The median time of several runs, and the memory of one more."""
    command = commands(who, method, kind, folder, mergekit)
    if command is None:
        return None
    shutil.rmtree(folder / "output", ignore_errors=True)
    found = [cost for _ in range(repeats) if (cost := measured(command, folder / "output", watch=False))]
    watched = measured(command, folder / "output", watch=True) if found else None
    print(f"{kind} {who} {method}: {[round(cost.seconds, 2) for cost in found]} s", file=sys.stderr)
    if watched is None:
        return None
    return Cost(statistics.median(cost.seconds for cost in found), watched.memory)


def table(kind: str, folder: Path, methods: list[str], mergekit: str | None, repeats: int) -> Iterator[str]:
    make(kind, folder)
    best("copy", "-", kind, folder, None, 1)  # so that the input is in the page cache
    copied = best("copy", "-", kind, folder, None, repeats)
    assert copied
    numbers, count = size_of(kind)
    kilo = f"{numbers / 1e6:,.0f} M parameters, {str(DTYPES[kind]).removeprefix('torch.')}, {count} experts"
    yield f"## {kind}: {kilo}"
    yield ""
    yield f"Copy: {copied.seconds:.2f} s."
    yield ""
    yield (
        "| method | time, s | / copy | with SHA-256 of the input, / copy | memory, MiB | plain torch: time, s | "
        "/ ours | memory, MiB | ours / it | mergekit: time, s | / ours | memory, MiB |"
    )
    yield "|---|" + "---:|" * 11
    for method in methods:
        once = 1 if method in SLOW else repeats
        ours = best("ours", method, kind, folder, None, once)
        assert ours, f"{method} failed"
        hashed = best("ours-hashed", method, kind, folder, None, 1) if method not in SLOW else None
        plain = best("dense", method, kind, folder, None, 1) if method in DENSE[kind] else None
        theirs = best("mergekit", method, kind, folder, mergekit, 1)
        cells = [method, f"{ours.seconds:.2f}", f"{ours.seconds / copied.seconds:.2f}"]
        cells += [f"{hashed.seconds / copied.seconds:.2f}" if hashed else "", f"{ours.memory:.0f}"]
        cells += _beside(ours, plain) + ([f"{ours.memory / plain.memory:.3f}"] if plain else [""])
        yield f"| {' | '.join(cells + _beside(ours, theirs))} |"


def _beside(ours: Cost, other: Cost | None) -> list[str]:
    if other is None:
        return ["", "", ""]
    return [f"{other.seconds:.2f}", f"{other.seconds / ours.seconds:.1f}", f"{other.memory:.0f}"]


def machine(mergekit: str | None) -> str:
    """One line on versions and hardware."""
    cpu = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.machine())  # fmt: skip
    memory = psutil.virtual_memory().total / 2**30
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, twin-merging {__version__}"
    if mergekit:
        code = "from importlib.metadata import version as v; print(v('mergekit'), 'with torch', v('torch'))"
        versions += (
            ", mergekit " + subprocess.run([mergekit, "-c", code], capture_output=True, text=True).stdout.strip()
        )
    return f"{versions}; {cpu}, {os.cpu_count()} cores, {memory:.0f} GiB."


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kinds", nargs="+", choices=["encoder", "decoder"], default=["encoder", "decoder"])
    parser.add_argument("--methods", nargs="+", choices=list(OPTIONS), default=[m for m in OPTIONS if m not in SLOW])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--mergekit", metavar="PYTHON")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    lines = [machine(given.mergekit), ""]
    for kind in given.kinds:
        lines += [*table(kind, given.folder, given.methods, given.mergekit, given.repeats), ""]
    text = "\n".join(lines)
    print(text)
    if given.output:
        given.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
