"""Stage merge: a static method's model, one parameter at a time."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin_merging import __version__
from twin_merging.checkpoints import WEIGHTS, open_directory, save_tensors, write_tensors
from twin_merging.experts import Expert, weights_of
from twin_merging.files import copy_file, sha256, whole_directory, write_json
from twin_merging.merging.registry import Method, Parameter
from twin_merging.parameters import Protocol
from twin_merging.task_vectors import TaskVector

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

PASSED_ON = ("config.json", "tokenizer.json", "tokenizer_config.json")


def merge(
    method: Method,
    options: Mapping[str, Any],
    protocol: Protocol,
    base: Path,
    task_vectors: Mapping[str, Path],
    experts: Mapping[str, Path],
    output: Path,
    labels: Mapping[str, int],
) -> None:
    """Write the merged model's directory: shared body, private parameters a task, merge.json.

    base, experts: model directories; task_vectors: files; all by task name. `labels` is each task's label count (1: a
    regression). Parameters of groups that the protocol does not merge keep the base's values in the body. Sums are
    in fp32 over the tasks in alphabetical order and are cast once, to the base's dtype.
    """
    output = Path(output)
    start = open_directory(base)
    vectors = {task: TaskVector(task_vectors[task]) for task in sorted(task_vectors)}

    def merged() -> Iterator[tuple[str, torch.Tensor]]:
        for name in start:
            value = start[name]
            if value.is_floating_point() and protocol.merges(name):
                changes = {task: vector.change(name, value) for task, vector in vectors.items()}
                result = method.function(Parameter(name, value.float(), changes), **options)
                value = result.to(value.dtype)
            yield name, value

    write_tensors(output / WEIGHTS, {name: (start.shape(name), start.dtype(name)) for name in start}, merged())
    with whole_directory(output / "private") as private:
        for task, directory in experts.items():
            save_tensors(private / f"{task}.safetensors", Expert(directory, start).private(protocol))
    for name in PASSED_ON:
        copy_file(Path(base) / name, output / name)
    record = {
        "method": method.name,
        "options": dict(options),
        "protocol": protocol.name,
        "groups": dict(protocol.groups),
        "head": "oracle",
        "tasks": {task: {"labels": labels[task]} for task in experts},
        "inputs": _inputs(Path(base), task_vectors, experts),
        "library": __version__,
    }
    write_json(output / "merge.json", record)
    log.info("merged %d parameters of %d experts by %s", len(start), len(vectors), method.name)


def _inputs(base: Path, task_vectors: Mapping[str, Path], experts: Mapping[str, Path]) -> dict[str, Any]:
    """SHA-256 of every input's weights, by the name that a model's record gives it."""
    files = {"base": base / WEIGHTS}
    files |= {f"task_vectors/{task}": path for task, path in task_vectors.items()}
    files |= {f"experts/{task}": weights_of(directory) for task, directory in experts.items()}
    return {name: {"sha256": sha256(path)} for name, path in files.items()}
