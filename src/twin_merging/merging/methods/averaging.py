"""Averages of the experts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from twin_merging.errors import UserError
from twin_merging.merging.registry import Parameter, merging_method

if TYPE_CHECKING:
    import torch


@merging_method("static", source="Wortsman et al. 2022, arXiv 2203.05482")
def weight_average(
    parameter: Parameter,
    *,
    weights: Annotated[
        Mapping[str, float] | None,
        {"description": "each task's share, in any unit; equal shares when absent"},
    ] = None,
) -> torch.Tensor:
    """Mean of the experts: theta_0 + sum_t a_t tau_t, with shares a_t that sum to 1."""
    shares = weights or dict.fromkeys(parameter.vectors, 1.0)
    total = sum(shares.values())
    if total == 0:
        raise UserError("weight_average: the weights sum to 0; give at least one task a share")
    merged = parameter.base.clone()
    for task, vector in parameter.vectors.items():
        merged.add_(vector, alpha=shares[task] / total)
    return merged
