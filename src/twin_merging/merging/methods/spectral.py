"""Methods that merge matrices by their singular vectors. Parameters that are no matrices are averaged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from twin_merging.merging.matrices import is_matrix, mean_of, orthogonalised, thin_svd
from twin_merging.merging.registry import Parameter, merging_method

if TYPE_CHECKING:
    import torch

SCALING = {"description": "factor of the merged change"}


@merging_method("static", source="Gargiulo et al. 2025, arXiv 2412.00081", whole=True, scales="scaling")
def tsv_m(parameter: Parameter, *, scaling: Annotated[float, SCALING] = 1.0) -> torch.Tensor:
    """Task Singular Vectors: keep the leading singular triples of each task's matrix, made orthogonal to each other.

    Of each tau_t = U_t S_t V_t' the first floor(min(m, n) / T) triples are kept, and at least one. They are put side by
    side over the T tasks and orthogonalised on both sides: D = U_o S V_o'. A parameter that is no matrix gets the mean
    of the task vectors.
    """
    import torch

    vectors = list(parameter.vectors.values())
    if not is_matrix(parameter.shape):
        return parameter.base + scaling * mean_of(vectors)
    rank = max(1, min(parameter.shape) // len(vectors))
    triples = [thin_svd(vector, rank) for vector in vectors]
    U, S, V = (torch.cat(parts, dim) for parts, dim in zip(zip(*triples, strict=True), (1, 0, 0), strict=True))
    if S.numel() == 0:
        return parameter.base.clone()
    change = (orthogonalised(U) * S) @ orthogonalised(V)
    return parameter.base + (scaling * change).float()


@merging_method("static", source="Marczak et al. 2025, arXiv 2502.04959", whole=True, scales="scaling")
def iso_c(parameter: Parameter, *, scaling: Annotated[float, SCALING] = 1.0) -> torch.Tensor:
    """Isotropic merging: take the sum of the tasks' matrices, and set all its singular values to their mean.

    From sum_t tau_t = U S V' follows D = mean(S) U V'; singular values of zero are left out. A parameter that is no
    matrix gets the mean of the task vectors.
    """
    vectors = list(parameter.vectors.values())
    mean = mean_of(vectors)
    if not is_matrix(parameter.shape):
        return parameter.base + scaling * mean
    U, S, V = thin_svd(mean.double() * len(vectors))
    if S.numel() == 0:
        return parameter.base.clone()
    return parameter.base + (scaling * S.mean() * (U @ V)).float()
