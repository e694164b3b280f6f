"""Stage merge: makes the directory of a merged model that has no router."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from twin_merging.checkpoints.experts import Expert
from twin_merging.checkpoints.groups import PROTOCOLS, Protocol, merged_names
from twin_merging.io.files import file_hashes, pass_on, sha256, whole_directory, write_json
from twin_merging.io.masks import MASKS
from twin_merging.io.sharding import ONE_FILE, Shards
from twin_merging.io.tensors import Checkpoint, save_tensors
from twin_merging.io.weights import open_directory, weight_files
from twin_merging.merging.body import merge_body
from twin_merging.merging.inputs import Inputs
from twin_merging.merging.masked import merge_masked_body
from twin_merging.merging.registry import Method
from twin_merging.merging.workers import in_order
from twin_merging.task_vectors.vectors import TaskVector
from twin_merging.version import __version__

log = logging.getLogger(__name__)


def merge_directory(
    *,
    method: Method,
    options: Mapping[str, Any],
    protocol: Protocol,
    base: Path,
    task_vectors: Mapping[str, Path],
    experts: Mapping[str, Path],
    output: Path,
    heads: Mapping[str, Mapping[str, Any]],
    statistics: Mapping[str, Path] | None = None,
    left_out: Collection[str] = (),
    workers: int = 1,
    chosen: Mapping[str, Any] | None = None,
    shards: Shards = ONE_FILE,
) -> None:
    """Merge, from the files of the stages before, and write the merged model's directory.

    It gets the shared body, each task's private parameters, and merge.json. Parameters of groups that the protocol does
    not merge keep the base's values in the body.

    base: a model directory. experts: a model directory for each task. task_vectors, statistics: a file for each task.
    heads: what merge.json says of each task's head: its number of `labels` (1: a regression), or nothing where a task
    has no head of its own. left_out: experts that are not merged, and of which the head alone is kept.
    workers: how many processes work at once. chosen: of options that were chosen on validation rows, what merge.json
    says of the choice (twin_merging.merging.chosen). shards: how the body is written.
    """
    output, began = Path(output), time.monotonic()
    start = open_directory(base)
    inputs = Inputs(
        start,
        {task: TaskVector(task_vectors[task]) for task in sorted(task_vectors)},
        merged_names(start, protocol),
        {task: Checkpoint(path) for task, path in sorted((statistics or {}).items())},
        workers,
    )
    write_body(method, options, start, inputs, output, shards)
    opened = {task: Expert(directory, start) for task, directory in experts.items()}
    write_private(opened, protocol, output, left_out)
    pass_on(Path(base), output)
    files = {f"task_vectors/{task}": [path] for task, path in task_vectors.items()}
    files |= {f"statistics/{task}": [path] for task, path in (statistics or {}).items()}
    about = {task: dict(heads[task]) for task in experts}
    write_record(
        output=output,
        method=method,
        options=options,
        protocol=protocol,
        tasks={task: about[task] for task in about if task not in left_out},
        left_out={task: about[task] for task in about if task in left_out},
        base=start,
        experts=opened,
        files=files,
        workers=workers,
        chosen=chosen,
    )
    seconds = time.monotonic() - began
    log.info("merged %d parameters of %d experts by %s in %.1f s", len(start), len(task_vectors), method.name, seconds)


def write_body(
    method: Method,
    options: Mapping[str, Any],
    base: Checkpoint,
    inputs: Inputs,
    output: Path,
    shards: Shards,
) -> None:
    """Write what is not private to a task into the directory `output`.

    For a static method this is the merged body; for a masked one it is the base's body, the vector and the masks.
    """
    if method.kind == "masked":
        merge_masked_body(method, options, base, inputs, output, shards)
    else:
        merge_body(method, options, base, inputs, output, shards)


def write_private(
    experts: Mapping[str, Expert], protocol: Protocol, output: Path, left_out: Collection[str] = ()
) -> None:
    """Write each task's private parameters, one file a task; of a task that is left out of the merge its head alone."""
    with whole_directory(output / "private") as private:
        for task, expert in experts.items():
            kept = PROTOCOLS["strict"] if task in left_out else protocol
            save_tensors(private / f"{task}.safetensors", expert.private(kept))


def write_record(
    *,
    output: Path,
    method: Method,
    options: Mapping[str, Any],
    protocol: Protocol,
    tasks: Mapping[str, Mapping[str, Any]],
    base: Checkpoint,
    experts: Mapping[str, Expert],
    files: Mapping[str, list[Path]],
    left_out: Mapping[str, Mapping[str, Any]] | None = None,
    workers: int = 1,
    hashes: bool = True,
    chosen: Mapping[str, Any] | None = None,
    vocabulary: Mapping[str, Any] | None = None,
) -> None:
    """Write merge.json, which says how the model was made: of `tasks`, and `left_out` where there are any. vocabulary:
    what it says of tokens that differed, where they did.

    With `hashes` it also has the SHA-256 of every file that the model was made from, of the model's body, and of the
    files in its own folders.
    """
    inputs = {"base": base.paths, **files, **{f"experts/{task}": expert.paths for task, expert in experts.items()}}
    named: dict[str, Path] = {}
    for name, paths in inputs.items():
        named |= {name if len(paths) == 1 else f"{name}/{path.name}": path for path in paths}
    found = in_order(list(named.values()), sha256, workers) if hashes else [None] * len(named)
    record: dict[str, Any] = {
        "method": method.name,
        "options": dict(options),
        **({} if chosen is None else {"chosen": dict(chosen)}),
        "protocol": protocol.name,
        "groups": dict(protocol.groups),
        "head": "oracle",
        "tasks": dict(tasks),
        **({"left_out": dict(left_out)} if left_out else {}),
        **({"vocabulary": dict(vocabulary)} if vocabulary else {}),
        "inputs": {name: {"sha256": digest} for name, digest in zip(named, found, strict=True)},
        "library": __version__,
    }
    if hashes:
        body = weight_files(output)
        record["files"] = {
            **dict(zip((file.name for file in body), in_order(body, sha256, workers), strict=True)),
            **file_hashes(output, "private", *([MASKS] if method.kind == "masked" else [])),
        }
    write_json(output / "merge.json", record)
