"""Methods that merge matrices by their singular vectors. Parameters that are no matrices are averaged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from twin_merging.merging.blocks import Blocks, Tall
from twin_merging.merging.matrices import is_matrix, mean_of
from twin_merging.merging.registry import merging_method
from twin_merging.merging.subspaces import Change, common_and_own, isotropic, merged_subspaces

if TYPE_CHECKING:
    import torch

SCALING = {"description": "factor of the merged change"}


@merging_method("static", source="Gargiulo et al. 2025, arXiv 2412.00081", whole=True, blocks=True, scales="scaling")
def tsv_m(blocks: Blocks, *, scaling: Annotated[float, SCALING] = 1.0) -> torch.Tensor:
    """Task Singular Vectors: keep the leading singular triples of each task's matrix, made orthogonal to each other.

    Of each tau_t = U_t S_t V_t' the first floor(min(m, n) / T) triples are kept, and at least one. They are put side by
    side over the T tasks and orthogonalised on both sides: D = U_o S V_o'. A parameter that is no matrix gets the mean
    of the task vectors.
    """
    if not is_matrix(blocks.shape):
        return _with_mean(blocks, scaling)
    matrix = Tall(blocks)
    change = merged_subspaces(matrix, max(1, matrix.n // len(matrix.tasks)))
    return blocks.base().clone() if change is None else matrix.plus(lambda *rows: scaling * change(*rows))


@merging_method("static", source="Marczak et al. 2025, arXiv 2502.04959", whole=True, blocks=True, scales="scaling")
def iso_c(blocks: Blocks, *, scaling: Annotated[float, SCALING] = 1.0) -> torch.Tensor:
    """Isotropic merging: take the sum of the tasks' matrices, and set all its singular values to their mean.

    From sum_t tau_t = U S V' follows D = mean(S) U V'; singular values of zero are left out. A parameter that is no
    matrix gets the mean of the task vectors.
    """
    if not is_matrix(blocks.shape):
        return _with_mean(blocks, scaling)
    matrix = Tall(blocks)
    change = isotropic(matrix, _sum(matrix))
    return blocks.base().clone() if change is None else matrix.plus(lambda *rows: scaling * change(*rows))


@merging_method("static", source="Marczak et al. 2025, arXiv 2502.04959", whole=True, blocks=True, scales="scaling")
def iso_cts(
    blocks: Blocks,
    *,
    fraction: Annotated[
        float,
        {"minimum": 0, "maximum": 1, "description": "share of the min(m, n) singular vectors that is the common space"},
    ] = 0.8,
    scaling: Annotated[float, SCALING] = 1.0,
) -> torch.Tensor:
    """Isotropic merging in common and task-specific spaces: Iso-C, whose last directions are replaced by tasks' own.

    Of the r = min(m, n) directions each of the T tasks gets s = (1 - fraction) r / T, rounded, and the sum of the
    tasks' matrices the other r - T s: its first singular vectors. Those of a task are the first ones of tau_t without
    its part in the common left space. Side by side they are orthogonalised on both sides as in `tsv_m`, and all
    singular values set to their mean: D = mean(S) U_o V_o'. A parameter that is no matrix gets the mean of the task
    vectors.
    """
    if not is_matrix(blocks.shape):
        return _with_mean(blocks, scaling)
    matrix = Tall(blocks)
    count = len(matrix.tasks)
    own = min(matrix.n // count, round((matrix.n - int(fraction * matrix.n + 1e-9)) / count))
    change = common_and_own(matrix, matrix.n - count * own, own, _sum(matrix))
    return blocks.base().clone() if change is None else matrix.plus(lambda *rows: scaling * change(*rows))


def _sum(matrix: Tall) -> Change:
    """Rows of the sum of the tasks' matrices, in fp64."""

    def summed(start: int, stop: int) -> torch.Tensor:
        vectors = matrix.vectors(start, stop)
        return mean_of(vectors).double() * len(vectors)

    return summed


def _with_mean(blocks: Blocks, scaling: float) -> torch.Tensor:
    parameter = blocks.whole()
    return parameter.base + scaling * mean_of(list(parameter.vectors.values()))
