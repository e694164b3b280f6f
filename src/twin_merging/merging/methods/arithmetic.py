"""Task Arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from twin_merging.merging.registry import Parameter, merging_method

if TYPE_CHECKING:
    import torch


def _scalings(options: Mapping[str, Any], tasks: list[str]) -> dict[str, float]:
    scaling = options["scaling"]
    return {task: scaling[task] if isinstance(scaling, Mapping) else scaling for task in tasks}


@merging_method("static", source="Ilharco et al. 2023, arXiv 2212.04089", linear=_scalings, scales="scaling")
def task_arithmetic(
    parameter: Parameter,
    *,
    scaling: Annotated[
        float | Mapping[str, float], {"description": "lambda: one factor, or one for each task by name"}
    ] = 0.3,
) -> torch.Tensor:
    """Base plus the scaled sum of the task vectors: theta_0 + sum_t lambda_t tau_t."""
    scalings = _scalings({"scaling": scaling}, list(parameter.vectors))
    merged = parameter.base.clone()
    for task, vector in parameter.vectors.items():
        merged.add_(vector, alpha=scalings[task])
    return merged
