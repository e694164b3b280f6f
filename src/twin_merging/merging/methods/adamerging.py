"""AdaMerging: coefficients of the task vectors that are learnt from rows without labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from twin_merging.merging.registry import Parameter, merging_method

if TYPE_CHECKING:
    import torch


@merging_method("static", source="Yang et al. 2024, arXiv 2310.02575", statistics="coefficients")
def adamerging(
    parameter: Parameter,
    *,
    coefficients: Annotated[
        Literal["layer", "tensor", "task"],
        {
            "description": "what has a coefficient of its own for each task: a layer, a parameter (as in the authors' "
            "code), or the whole body"
        },
    ] = "layer",
    start: Annotated[float, {"minimum": 0, "maximum": 1, "description": "every coefficient at first"}] = 0.3,
    steps: Annotated[int, {"minimum": 0, "description": "steps of Adam; the authors take 500 at 1e-3"}] = 50,
    learning_rate: Annotated[float, {"exclusiveMinimum": 0, "description": "Adam's"}] = 1e-2,
    batch_size: Annotated[int, {"minimum": 1, "description": "rows of each task in a step; the authors take 16"}] = 8,
    rows: Annotated[int, {"minimum": 1, "description": "training rows of each task that are drawn"}] = 1000,
    seed: Annotated[int | None, {"minimum": 0, "description": "of the draw; absent: the suite's"}] = None,
) -> torch.Tensor:
    """Add up the task vectors with coefficients that make the merged model surest of its answers.

    theta_0 + sum_t lambda_t,g tau_t, where Adam minimises the entropy of the predictions, summed over the tasks, on
    training rows without their labels. A regression's predictions have no entropy; it is left out of the sum.
    """
    merged = parameter.base.clone()
    for task, vector in parameter.vectors.items():
        merged.add_(vector, alpha=float(parameter.statistics[task]))
    return merged
