"""Merge the body by a static method: some rows of a parameter at a time, each result written to the file at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin_merging.checkpoints.adapters import Factors
from twin_merging.errors import UserError
from twin_merging.io.sharding import ONE_FILE, Shards, model_file
from twin_merging.io.tensors import Checkpoint
from twin_merging.merging.cores import CoreMatrix, core_space
from twin_merging.merging.factors import factor_space
from twin_merging.merging.inputs import Inputs, RowRange
from twin_merging.merging.options import inner_of
from twin_merging.merging.registry import Merged, Method
from twin_merging.merging.workers import in_order, one_thread_each
from twin_merging.task_vectors.lora_matrices import LoraMatrix

if TYPE_CHECKING:
    import torch


def merge_body(
    method: Method,
    options: Mapping[str, Any],
    base: Checkpoint,
    inputs: Inputs,
    output: Path,
    shards: Shards = ONE_FILE,
) -> None:
    """Write the merged body's weights into the directory `output`, as `shards` say.

    A parameter that some expert changes is merged, every other one is copied from the base.
    Sums are taken in fp32 over the tasks in alphabetical order, and cast once to the base's dtype. The written bytes
    depend only on the content of the inputs and on the options; the number of processes, the size of chunks, the
    sharding and the order of the experts change nothing. Raises UserError for NaN or infinity in an input or a result.
    """
    options = dict(options)
    lora: dict[str, LoraMatrix | CoreMatrix] = {}  # of what is not merged as a matrix of the base
    with one_thread_each():
        space = options.pop("lora_space", "product")
        if space == "factor":
            inputs, matrices = factor_space(inputs)
            lora = {part: matrix for matrix in matrices for part in matrix.parts}
        elif space == "core":
            inputs, cores = core_space(inputs)
            lora = {core.name: core for core in cores}
        compute, settle = prepared(method, options, inputs)
        merged = {name for name in inputs.names if any(vector.changes(name) for vector in inputs.vectors.values())}
        parts = inputs.chunks(whole=True, names=sorted(merged - set(base)))
        factors = _computed(compute, parts, inputs.workers)
        kept = inputs.chunks(names=[name for name in base if name not in merged and name not in lora])
        whole = takes_whole(method, options)
        todo = inputs.chunks(whole, [name for name in base if name in merged])
        if whole:  # the largest first, so that no worker is left with it in the end
            todo.sort(key=lambda rows: -math.prod(base.shape(rows[0])))
        jobs = kept + todo
        with model_file(output, {name: (base.shape(name), base.dtype(name)) for name in base}, shards) as file:

            def work(rows: RowRange) -> tuple[RowRange, int, Any]:
                name, start, stop = rows
                note = None
                if name in merged:
                    value, note = compute(rows)
                elif name in lora:
                    own = [factors[part, 0, inputs.rows_of(part)][0] for part in lora[name].shapes]
                    change = _change(lora[name], own, name)
                    value = base.rows(*rows).float() + change.rows(start, stop)
                else:
                    value = base.rows(*rows)
                file.write(name, cast(value, base.dtype(name), name=name, output=output), start)
                return rows, value.numel(), note

            def run(jobs: list[RowRange], what: str) -> list[tuple[RowRange, Any]]:
                notes = []
                for rows, numbers, note in inputs.progress(in_order(jobs, work, inputs.workers), what, len(jobs)):
                    file.written(rows[0], numbers, rows[1])
                    notes += [] if note is None else [(rows, note)]
                return notes

            notes = run(jobs, "merging") + [(rows, note) for rows, (_, note) in factors.items() if note]
            again = settle(notes)
            factors |= {rows: compute(rows) for rows in again if rows in factors}
            run(
                [rows for rows in again if rows not in factors] + inputs.chunks(names=sorted(lora)),
                "writing what is settled",
            )


Compute = Callable[[RowRange], tuple["torch.Tensor", Any]]
Settle = Callable[[list[tuple[RowRange, Any]]], list[RowRange]]


def prepared(method: Method, options: Mapping[str, Any], inputs: Inputs) -> tuple[Compute, Settle]:
    """Run the method's `prepare` over all parameters, if it has one, and return two functions.

    The first one merges a range of rows: it returns the merged rows and a note on them (None for most methods). The
    second one is called with all notes at the end, and returns the ranges of rows that have to be merged again.
    """
    if method.wraps:
        return _wrapped(method, options, inputs)
    if method.blocks:
        return lambda rows: (method.function(inputs.blocks(rows[0]), **options), None), lambda notes: []
    if method.prepare is None:
        return lambda rows: (method.function(inputs.parameter(rows), **options), None), lambda notes: []
    found = method.prepare(inputs, **options)

    def compute(rows: RowRange) -> tuple[torch.Tensor, Any]:
        result = method.function(inputs.parameter(rows), found, **options)
        return result if isinstance(result, tuple) else (result, None)

    return compute, lambda notes: found.settle(notes) if notes else []


def takes_whole(method: Method, options: Mapping[str, Any]) -> bool:
    """Whether whole parameters are merged at once."""
    return takes_whole(*inner_of(options)) if method.wraps else method.whole


def _wrapped(method: Method, options: Mapping[str, Any], inputs: Inputs) -> tuple[Compute, Settle]:
    inner, settle = prepared(*inner_of(options), inputs)
    found = () if method.prepare is None else (method.prepare(inputs, **options),)

    def compute(rows: RowRange) -> tuple[torch.Tensor, Any]:
        value, note = inner(rows)
        merged = Merged(rows[0], inputs.base.rows(*rows).float(), value)
        return method.function(merged, *found, **options), note

    return compute, settle


def _change(matrix: LoraMatrix | CoreMatrix, own: list[torch.Tensor], part: str) -> Factors:
    """What is added to a matrix of the base, from what was merged in its place."""
    return matrix.change(own[0]) if isinstance(matrix, CoreMatrix) else matrix.of_part(own[0], own[1], part)


def _computed(compute: Compute, parts: list[RowRange], workers: int) -> dict[RowRange, tuple[torch.Tensor, Any]]:
    """The merged parameters that are no parameters of the base, each whole, with the notes on them."""
    import torch

    def work(rows: RowRange) -> tuple[Any, Any]:  # an array goes from one process to another as bytes
        value, note = compute(rows)
        return value.numpy(), note

    found = zip(parts, in_order(parts, work, workers), strict=True)
    return {rows: (torch.from_numpy(value), note) for rows, (value, note) in found}


def cast(value: torch.Tensor, dtype: torch.dtype, *, name: str, output: Path) -> torch.Tensor:
    """The merged rows in the base's type. Raises UserError where a number overflows that type."""
    cast = value.to(dtype)
    if cast.is_floating_point() and not math.isfinite(cast.float().sum()) and not cast.isfinite().all():
        raise UserError(
            f"{output}: merged tensor '{name}' does not fit {str(dtype).removeprefix('torch.')}, the base's type; "
            "lower the scaling, or convert the base to float32"
        )
    return cast
