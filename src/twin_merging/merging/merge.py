"""Stage merge: a merged model without a router, a range of rows at a time."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin_merging import __version__
from twin_merging.checkpoints import WEIGHTS, Checkpoint, TensorWriter, open_directory, save_tensors, tensor_file
from twin_merging.errors import UserError
from twin_merging.experts import Expert, Factors
from twin_merging.files import copy_file, sha256, whole_directory, write_json
from twin_merging.merging.factors import factor_space, parts_of
from twin_merging.merging.inputs import Inputs, Rows
from twin_merging.merging.masked import merge_masked_body
from twin_merging.merging.registry import Method, Parameter
from twin_merging.merging.workers import in_order, one_thread_each
from twin_merging.parameters import Protocol
from twin_merging.task_vectors import TaskVector

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

# What a merged model takes over from the base, where the base has it.
PASSED_ON = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
             "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "vocab.txt", "tokenizer.model",
             "chat_template.jinja")  # fmt: skip


def merge(
    method: Method,
    options: Mapping[str, Any],
    protocol: Protocol,
    base: Path,
    task_vectors: Mapping[str, Path],
    experts: Mapping[str, Path],
    output: Path,
    labels: Mapping[str, int],
    statistics: Mapping[str, Path] | None = None,
    workers: int = 1,
) -> None:
    """Write a merged model's directory from the files of the stages before it: shared body, private parameters a task,
    merge.json.

    base, experts: model directories; task_vectors, statistics: files; all by task name. `labels` is each task's label
    count (1: a regression). Parameters of groups that the protocol does not merge keep the base's values in the body.
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
    write_body(method, options, start, inputs, output)
    opened = {task: Expert(directory, start) for task, directory in experts.items()}
    write_private(opened, protocol, output)
    pass_on(Path(base), output)
    files = {f"task_vectors/{task}": [path] for task, path in task_vectors.items()}
    files |= {f"statistics/{task}": [path] for task, path in (statistics or {}).items()}
    tasks = {task: {"labels": labels[task]} for task in experts}
    write_record(output, method, options, protocol, tasks, start, opened, files, workers)
    seconds = time.monotonic() - began
    log.info("merged %d parameters of %d experts by %s in %.1f s", len(start), len(opened), method.name, seconds)


def write_body(method: Method, options: Mapping[str, Any], base: Checkpoint, inputs: Inputs, output: Path) -> None:
    """Write what is shared by all tasks into the directory `output`: the merged body, or body, vector and masks."""
    if method.kind == "masked":
        merge_masked_body(method, options, base, inputs, output)
    else:
        merge_body(method, options, base, inputs, output / WEIGHTS)


def merged_names(base: Checkpoint, protocol: Protocol) -> tuple[str, ...]:
    """Names of the base's parameters that a protocol merges; integer buffers are none."""
    return tuple(name for name in base if base.dtype(name).is_floating_point and protocol.merges(name))


def write_private(experts: Mapping[str, Expert], protocol: Protocol, output: Path) -> None:
    """Write each task's private parameters."""
    with whole_directory(output / "private") as private:
        for task, expert in experts.items():
            save_tensors(private / f"{task}.safetensors", expert.private(protocol))


def pass_on(base: Path, output: Path) -> None:
    """Copy the base's configuration and tokenizer."""
    for name in PASSED_ON:
        if (base / name).is_file():
            copy_file(base / name, output / name)


def write_record(
    output: Path,
    method: Method,
    options: Mapping[str, Any],
    protocol: Protocol,
    tasks: Mapping[str, Mapping[str, Any]],
    base: Checkpoint,
    experts: Mapping[str, Expert],
    files: Mapping[str, list[Path]],
    workers: int = 1,
    hashes: bool = True,
) -> None:
    """Write merge.json: how the model was made, and (with `hashes`) the SHA-256 of every file it was made from."""
    inputs = {"base": base.paths, **files, **{f"experts/{task}": expert.paths for task, expert in experts.items()}}
    named: dict[str, Path] = {}
    for name, paths in inputs.items():
        named |= {name if len(paths) == 1 else f"{name}/{path.name}": path for path in paths}
    found = in_order(list(named.values()), sha256, workers) if hashes else [None] * len(named)
    record = {
        "method": method.name,
        "options": dict(options),
        "protocol": protocol.name,
        "groups": dict(protocol.groups),
        "head": "oracle",
        "tasks": dict(tasks),
        "inputs": {name: {"sha256": digest} for name, digest in zip(named, found, strict=True)},
        "library": __version__,
    }
    write_json(output / "merge.json", record)


def merge_body(method: Method, options: Mapping[str, Any], base: Checkpoint, inputs: Inputs, output: Path) -> None:
    """Write the merged body: the base's parameters, and in their place those that are merged.

    Sums are in fp32 over the tasks in alphabetical order, cast once to the base's dtype. Bytes depend on the inputs'
    content and on the options alone: not on threads, chunks, shards, or the order of experts. What no expert changes
    is the base's. Raises UserError for NaN or infinity, in an input or in the result.
    """
    options = dict(options)
    lora: list[str] = []  # matrices whose factors are merged apart
    with one_thread_each():
        if options.pop("lora_space", "product") == "factor":
            inputs, lora = factor_space(inputs)
        compute, settle = prepared(method, options, inputs)
        merged = {name for name in inputs.names if any(vector.changes(name) for vector in inputs.vectors.values())}
        factors = {
            rows: compute(inputs.parameter(rows)) for rows in inputs.chunks(True, [n for n in merged if n not in base])
        }
        plain = inputs.chunks(names=[name for name in base if name not in merged and name not in lora])
        jobs = inputs.chunks(method.whole, sorted(name for name in merged if name in base))
        with tensor_file(output, {name: (base.shape(name), base.dtype(name)) for name in base}) as file:

            def work(rows: Rows) -> tuple[Rows, int, Any]:
                name, start, stop = rows
                note = None
                if name in merged:
                    value, note = compute(inputs.parameter(rows))
                elif name in lora:
                    down, up = (factors[part, 0, inputs.rows_of(part)][0] for part in parts_of(name))
                    value = base.rows(*rows).float() + Factors(down, up[start:stop]).product()
                else:
                    value = base.rows(*rows)
                _write(file, name, value, base.dtype(name), start, output)
                return rows, value.numel(), note

            def run(jobs: list[Rows], what: str) -> list[tuple[Rows, Any]]:
                notes = []
                for rows, numbers, note in inputs.progress(in_order(jobs, work, inputs.workers), what, len(jobs)):
                    file.written(rows[0], numbers, rows[1])
                    notes += [] if note is None else [(rows, note)]
                return notes

            again = settle(
                [*run(plain + jobs, "merging"), *((rows, note) for rows, (_, note) in factors.items() if note)]
            )
            factors |= {rows: compute(inputs.parameter(rows)) for rows in again if rows in factors}
            run([rows for rows in again if rows not in factors] + inputs.chunks(names=lora), "writing what is settled")


Compute = Callable[[Parameter], tuple["torch.Tensor", Any]]
Settle = Callable[[list[tuple[Rows, Any]]], list[Rows]]


def prepared(method: Method, options: Mapping[str, Any], inputs: Inputs) -> tuple[Compute, Settle]:
    """The method after its pass over all parameters where it needs one: as a function of a Parameter, which gives rows
    and a note (None for most methods), and what says from all notes which rows are to be merged again."""
    if method.prepare is None:
        return lambda parameter: (method.function(parameter, **options), None), lambda notes: []
    found = method.prepare(inputs, **options)

    def compute(parameter: Parameter) -> tuple[torch.Tensor, Any]:
        result = method.function(parameter, found, **options)
        return result if isinstance(result, tuple) else (result, None)

    return compute, lambda notes: found.settle(notes) if notes else []


def _write(file: TensorWriter, name: str, value: torch.Tensor, dtype: torch.dtype, start: int, output: Path) -> None:
    cast = value.to(dtype)
    if cast.is_floating_point() and not math.isfinite(cast.float().sum()) and not cast.isfinite().all():
        raise UserError(
            f"{output}: merged tensor '{name}' does not fit {str(dtype).removeprefix('torch.')}, the base's type; "
            "lower the scaling, or convert the base to float32"
        )
    file.write(name, cast, start)
