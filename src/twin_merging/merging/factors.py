"""`lora_space: factor`: merges the LoRA factors A and B separately, as the paper's generative code does.

A and B are merged as they were trained, without the scale alpha / r, which stands before the product of the merged
ones. A and B of matrices that were one when the adapter was trained (the first Qwen's queries, keys and values) are
merged as those of the one: thresholds and random masks see its A once. The product of merged factors is another matrix
than the merged product of factors; the option exists to match figures that were made in this way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from twin_merging.checkpoints.adapters import Factors
from twin_merging.checkpoints.fused import Groups
from twin_merging.errors import UserError
from twin_merging.merging.inputs import Inputs, Vector
from twin_merging.merging.replacing import ReplacedBase, ReplacedVector, others_changed, trained_whole
from twin_merging.task_vectors.lora_matrices import DOWN, LoraMatrix, whole_factors

if TYPE_CHECKING:
    import torch


def factor_space(inputs: Inputs) -> tuple[Inputs, list[LoraMatrix]]:
    """The inputs with every matrix that LoRA changes replaced by its two factors, and these matrices.

    The factors A and B are then merged like any other parameter; their base is 0. What the experts change in other
    ways stays as it is. Raises UserError when the experts' ranks or scales differ, or when one expert trains a whole
    matrix that another one changes by LoRA.
    """
    changed = [name for name in inputs.names if any(vector.factors(name) for vector in inputs.vectors.values())]
    if not changed:
        first = next(iter(inputs.vectors.values()))
        raise UserError(
            f"{first.where}: lora_space: factor is for LoRA experts, but no expert is one; leave the option out"
        )
    matrices = [_matrix(inputs, name, parts) for name, parts in sorted(_groups(inputs.vectors, changed).items())]
    by_factor = {name: matrix for matrix in matrices for name in matrix.shapes}
    base = ReplacedBase(inputs.base, {name: matrix.shapes[name] for name, matrix in by_factor.items()})
    vectors = {
        task: ReplacedVector(vector, by_factor, partial(_factor, by_factor, vector))
        for task, vector in inputs.vectors.items()
    }
    names = tuple(sorted([*others_changed(inputs.names, changed, inputs.vectors), *by_factor]))
    return replace(inputs, base=base, vectors=vectors, names=names), matrices


def _groups(vectors: Mapping[str, Vector], changed: list[str]) -> dict[str, tuple[str, ...]]:
    """The base's names of each matrix as it was trained. Raises UserError where experts differ."""
    found: dict[str, tuple[str, ...]] = {}
    where: dict[str, str] = {}
    of_part: dict[str, str] = {}
    for vector in vectors.values():
        fused: Groups = vector.fused
        own = {part: name for name, parts in fused.items() for part in parts}
        for part in changed:
            if vector.factors(part) is None:
                continue
            name = own.get(part, part)
            if of_part.setdefault(part, name) != name:
                raise UserError(
                    f"{vector.where}: '{part}' was trained as part of '{name}' here, but of '{of_part[part]}' in "
                    f"{where[part]}; factors of different matrices cannot be merged, use lora_space: product"
                )
            where.setdefault(part, vector.where)
            found[name] = fused.get(name, (part,))
    return found


def _matrix(inputs: Inputs, name: str, parts: tuple[str, ...]) -> LoraMatrix:
    """A matrix with the rank and the scale that all experts' factors of it have."""
    settings: dict[tuple[int, float], str] = {}
    for part, vector, factors in _all_factors(inputs.vectors, parts):
        if factors is None and vector.changes(part):
            raise trained_whole(vector, part)
        if factors is not None:
            settings.setdefault((factors.down.shape[0], factors.scale), vector.where)
    if len(settings) > 1:
        ((rank, scale), one), ((other_rank, other_scale), other) = list(settings.items())[:2]
        what, own, theirs = ("rank", other_rank, rank) if rank != other_rank else ("scale", other_scale, scale)
        raise UserError(
            f"{other}: '{name}' has LoRA {what} {own}, but {theirs} in {one}; factors of different {what}s cannot be "
            "merged, use lora_space: product"
        )
    rank, scale = next(iter(settings))
    shapes = {part: inputs.base.shape(part) for part in parts}
    return LoraMatrix(name, {part: m for part, (m, _) in shapes.items()}, shapes[parts[0]][1], rank, scale)


def _all_factors(vectors: Mapping[str, Vector], parts: tuple[str, ...]) -> Iterator[tuple[str, Vector, Factors | None]]:
    for part in parts:
        for vector in vectors.values():
            yield part, vector, vector.factors(part)


def _factor(matrices: Mapping[str, LoraMatrix], vector: Vector, name: str) -> torch.Tensor | None:
    """A vector's factor of this name, of the matrices by their factors' names."""
    factors = whole_factors(vector, matrices[name])
    if factors is None:
        return None
    return factors.down if name.endswith(DOWN) else factors.unscaled
