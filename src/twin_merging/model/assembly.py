"""Stage assemble: a dynamic method's directory from shared expert, exclusive vectors and router."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twin_merging import __version__
from twin_merging.checkpoints import WEIGHTS, Checkpoint
from twin_merging.exclusives import Exclusive
from twin_merging.files import copy_file, read_json, sha256, whole_directory, write_json
from twin_merging.model.adapters import ExclusiveVector, save_exclusive
from twin_merging.routing.kinds import build_router
from twin_merging.routing.router import Router

log = logging.getLogger(__name__)

PASSED_ON = ("config.json", "tokenizer.json", "tokenizer_config.json", WEIGHTS)
SIZES = ("rank", "fraction", "energy")


def assemble(
    entry: Mapping[str, Any],
    head: str,
    shared: Path,
    exclusives: Mapping[str, Path],
    router: Path,
    router_settings: Mapping[str, Any],
    output: Path,
) -> None:
    """Write models/<method>/ of a dynamic method.

    entry: the method's entry of the suite; head: oracle or routed; shared: its shared expert's directory; exclusives:
    a file a task, in the router's order; router: the trained state, of `router_settings`.
    """
    shared, output = Path(shared), Path(output)
    tasks = list(exclusives)
    for name in PASSED_ON:
        copy_file(shared / name, output / name)
    with whole_directory(output / "private") as private:
        for task in tasks:
            copy_file(shared / "private" / f"{task}.safetensors", private / f"{task}.safetensors")
    sizes = {size: entry[size] for size in SIZES if size in entry}
    numbers = {}
    with whole_directory(output / "exclusive") as folder:
        for task, path in exclusives.items():
            vector = cut(Exclusive(path, sizes))
            numbers[task] = vector.numbers
            save_exclusive(vector, folder / task)
    with whole_directory(output / "router") as folder:
        _router(router, tasks, router_settings, entry).save(folder)
    below = read_json(shared / "merge.json")
    inputs = {"shared": Path(shared) / WEIGHTS, "router": router}
    inputs |= {f"exclusive/{task}": path for task, path in exclusives.items()}
    record = {
        "method": entry["method"],
        "options": {key: value for key, value in entry.items() if key not in ("method", "protocol")},
        "protocol": below["protocol"],
        "groups": below["groups"],
        "head": head,
        "tasks": {task: {**below["tasks"][task], "exclusive_numbers": numbers[task]} for task in tasks},
        "shared": below,
        "inputs": {name: {"sha256": sha256(path)} for name, path in inputs.items()},
        "library": __version__,
    }
    write_json(output / "merge.json", record)
    log.info("assembled %s: %d exclusive numbers in all", output, sum(numbers.values()))


def cut(exclusive: Exclusive) -> ExclusiveVector:
    """An exclusive file's vector at its sizes: up = U S, down = V. Matrices of rank 0 are left out."""
    factors = {}
    for name in exclusive.matrices:
        found = exclusive.matrix(name)
        if found.S.numel():
            factors[name] = (found.V, found.U * found.S)
    return ExclusiveVector(factors, {name: exclusive.vector(name) for name in exclusive.vectors})


def _router(state: Path, tasks: list[str], settings: Mapping[str, Any], entry: Mapping[str, Any]) -> Router:
    return build_router(settings, tasks, Checkpoint(state), entry["temperature"], entry["top_k"])
