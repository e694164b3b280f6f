"""Merges one tensor after another, a range of its rows at a time, and writes each range at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin_merging.api.mergekit.plan import Output
from twin_merging.api.mergekit.rules import Rule
from twin_merging.checkpoints.adapters import Factors
from twin_merging.checkpoints.fused import Groups
from twin_merging.errors import UserError
from twin_merging.io.sharding import Shards, ShardWriter, model_file
from twin_merging.io.tensors import Checkpoint, TensorWriter
from twin_merging.merging.body import cast
from twin_merging.merging.inputs import Inputs, Vector
from twin_merging.merging.workers import in_order, one_thread_each

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Origin:
    """The tensor of one output that its merge begins at: a base's, or zeros of the same shape."""

    stored: Checkpoint
    name: str
    is_zero: bool

    def shape(self, name: str) -> tuple[int, ...]:
        return self.stored.shape(self.name)

    def rows(self, name: str, start: int, stop: int) -> torch.Tensor:
        import torch

        if not self.is_zero:
            return self.stored.rows(self.name, start, stop)
        shape = self.shape(name)
        return torch.zeros((stop - start, *shape[1:]) if len(shape) > 1 else shape)


@dataclass
class Change:
    """What a model's tensor has beyond the origin's, for one output."""

    where: str
    stored: Checkpoint
    name: str

    @property
    def fused(self) -> Groups:
        return {}

    def changes(self, name: str) -> bool:
        return True

    def factors(self, name: str) -> Factors | None:
        return None

    def rows(self, name: str, start: int, stop: int, base: torch.Tensor) -> torch.Tensor:
        return self.stored.rows(self.name, start, stop).float().sub_(base)


def inputs_of(output: Output, chunk: int) -> Inputs:
    """What is read to merge one tensor. Raises UserError where the models' tensors are of different shapes."""
    begin = output.base or output.sources[0][1:]
    model, name = begin
    origin = Origin(model.stored, model.names[name], output.base is None)
    vectors: dict[str, Vector] = {}
    for key, other, own in output.sources:
        stored = other.names[own]
        vectors[key] = Change(str(other.directory), other.stored, stored)
        shape, wanted = other.stored.shape(stored), origin.shape(name)
        if shape != wanted:
            vocabulary = "embed" in name or "lm_head" in name or "wte" in name
            remedy = (
                "their vocabularies differ: say tokenizer_source: union, or base"
                if vocabulary and shape[1:] == wanted[1:]
                else "name models of one size"
            )
            raise UserError(
                f"{other.directory}: tensor '{other.full(own)}' is {list(shape)}, but {list(wanted)} in "
                f"{model.directory}; {remedy}"
            )
    return Inputs(base=origin, vectors=vectors, names=(output.name,), chunk=chunk)


def merge_tensors(
    rule: Rule,
    outputs: Sequence[Output],
    dtype: str | None,
    folder: Path,
    shards: Shards,
    *,
    workers: int,
    chunk: int,
    progress: Callable[[Iterator[Any], str, int], Iterator[Any]],
) -> None:
    """Write the merged weights into a folder. dtype: of all tensors; else each has that of the model that its merge
    begins at. The bytes depend on neither the number of processes nor the size of chunks."""
    import torch

    inputs = {output.name: inputs_of(output, chunk) for output in outputs}
    shapes: dict[str, tuple[tuple[int, ...], torch.dtype]] = {}
    for output in outputs:
        origin: Any = inputs[output.name].base
        own = getattr(torch, dtype) if dtype else origin.stored.dtype(origin.name)
        shapes[output.name] = origin.shape(output.name), own
    # In the order of their sizes, so that every process gets about as much to do.
    jobs = sorted(outputs, key=lambda output: math.prod(shapes[output.name][0]), reverse=True)
    with one_thread_each(), model_file(folder, shapes, shards) as file:

        def work(output: Output) -> list[tuple[int, int]]:
            return _merged(rule, output, inputs[output.name], file, shapes[output.name][1], folder)

        done = in_order(jobs, work, workers)
        for output, written in zip(jobs, progress(done, "merging", len(jobs)), strict=True):
            for start, numbers in written:
                file.written(output.name, numbers, start)


def _merged(
    rule: Rule, output: Output, inputs: Inputs, file: TensorWriter | ShardWriter, dtype: torch.dtype, where: Path
) -> list[tuple[int, int]]:
    """Merge and write one tensor. Gives the first row and the number of entries of each range that was written."""
    compute = rule.prepare(inputs, output.values)
    written = []
    for rows in inputs.chunks():
        value = cast(compute(inputs.parameter(rows)), dtype, name=output.name, output=where)
        file.write(output.name, value, rows[1])
        written.append((rows[1], value.numel()))
    return written
