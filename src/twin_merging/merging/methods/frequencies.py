"""FR-Merging: merges what is left of the task vectors without their low frequencies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from twin_merging.merging.matrices import is_matrix
from twin_merging.merging.registry import Parameter, merging_method

if TYPE_CHECKING:
    import torch


@merging_method("static", source="Zheng and Wang 2025, arXiv 2411.16815", whole=True, scales="scaling")
def fr_merging(
    parameter: Parameter,
    *,
    cutoff: Annotated[
        float,
        {
            "exclusiveMinimum": 0,
            "description": "how far from the highest frequency of a matrix what is kept may lie, as a share of its "
            "longer side; from 0.71 on nothing is filtered",
        },
    ] = 0.6,
    scaling: Annotated[float, {"description": "factor of the merged vector"}] = 0.4,
) -> torch.Tensor:
    """FR-Merging: add up the task vectors without the low frequencies of their matrices. It is FREE-Merging's backbone.

    Of the two-dimensional Fourier transform of a matrix (m, n) those coefficients are kept whose distance from (m / 2,
    n / 2), the highest frequency, is at most cutoff * max(m, n): theta_0 + scaling * filtered sum_t tau_t. Other
    parameters are added up as they are. `free_merging` adds FREE-Merging's sparse expert of each task.
    """
    import torch

    total = torch.zeros(parameter.base.shape, dtype=torch.float64)
    for vector in parameter.vectors.values():
        total.add_(vector)
    if is_matrix(parameter.shape):
        total = _without_low_frequencies(total, cutoff)
    return parameter.base.add(total.float(), alpha=scaling)


def _without_low_frequencies(matrix: torch.Tensor, cutoff: float) -> torch.Tensor:
    """A matrix (m, n) without the frequencies that lie too far from (m / 2, n / 2), fp64.

    The transform of real numbers is symmetric, and so are the distances: half of the columns say all.
    """
    import torch

    m, n = matrix.shape
    rows = torch.arange(m, dtype=torch.float64).sub_(m / 2).square_()
    columns = torch.arange(n // 2 + 1, dtype=torch.float64).sub_(n / 2).square_()
    is_kept = rows[:, None] + columns <= (cutoff * max(m, n)) ** 2
    if bool(is_kept.all()):
        return matrix
    return torch.fft.irfft2(torch.fft.rfft2(matrix).mul_(is_kept), s=(m, n))
