"""Inner products of the experts' vectors, for each parameter by itself, in fp64.

They are summed piece by piece, so the size of chunks changes no bit of them.
"""

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
    """Yield each parameter's name, and the inner products of all pairs of its task vectors, each with itself too.

    With `of_weights`, the experts' weights theta_t are taken in place of the task vectors.
    """

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
    """Cut tensors that hold a parameter's rows into the parameter's pieces, and yield these in fp64."""
    if len(parameter.shape) < 2:
        yield {task: tensor.double() for task, tensor in tensors.items()}
        return
    first = parameter.start
    for start, stop in pieces(parameter.shape, first, first + row_count(tuple(parameter.base.shape))):
        yield {task: tensor[start - first : stop - first].double() for task, tensor in tensors.items()}


def _summed(found: dict[str, list[Products]]) -> tuple[str, Products]:
    """Sum the products of the one parameter in `found` over its pieces, without rounding; empties `found`."""
    name, parts = found.popitem()
    return name, {pair: math.fsum(part[pair] for part in parts) for pair in parts[0]}
