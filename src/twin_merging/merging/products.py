"""Inner products of the experts' vectors, for each parameter, in fp64 and the same for any size of chunks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING

from twin_merging.io.ranges import pieces, row_count
from twin_merging.merging.inputs import Inputs
from twin_merging.merging.registry import Parameter

if TYPE_CHECKING:
    import torch

Products = dict[tuple[str, str], float]


def inner_products(inputs: Inputs, of_weights: bool = False) -> Iterator[tuple[str, Products]]:
    """Of each parameter the inner product of every two tasks' vectors (or weights theta_t), each with itself too."""

    def partial(parameter: Parameter) -> list[Products]:
        own = parameter.vectors
        if of_weights:
            own = {task: parameter.base + vector for task, vector in own.items()}
        return [
            {
                (one, other): float(rows[one].flatten().dot(rows[other].flatten()))
                for one, other in combinations_with_replacement(rows, 2)
            }
            for rows in by_pieces(parameter, own)
        ]

    found: dict[str, list[Products]] = {}
    for name, parts in inputs.fold(partial, "measuring angles"):
        if name not in found and found:
            yield _summed(found)
        found.setdefault(name, []).extend(parts)
    if found:
        yield _summed(found)


def by_pieces(parameter: Parameter, tensors: Mapping[str, torch.Tensor]) -> Iterator[dict[str, torch.Tensor]]:
    """Tensors of a parameter's rows cut into its pieces, in fp64."""
    if len(parameter.shape) < 2:
        yield {task: tensor.double() for task, tensor in tensors.items()}
        return
    first = parameter.start
    for start, stop in pieces(parameter.shape, first, first + row_count(tuple(parameter.base.shape))):
        yield {task: tensor[start - first : stop - first].double() for task, tensor in tensors.items()}


def _summed(found: dict[str, list[Products]]) -> tuple[str, Products]:
    """The one parameter's products, summed over its pieces without rounding; empties `found`."""
    name, parts = found.popitem()
    return name, {pair: math.fsum(part[pair] for part in parts) for pair in parts[0]}
