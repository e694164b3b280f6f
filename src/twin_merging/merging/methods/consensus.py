"""TALL masks, which say where a task's change is left in the sum of all, and Consensus merging, which counts them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from twin_merging.merging.registry import Parameter, merging_method

if TYPE_CHECKING:
    import torch

Lambda = Annotated[
    float | Mapping[str, float],
    {
        "minimum": 0,
        "description": "lambda of the masks: a larger one keeps fewer entries. One for all tasks, or one for each by "
        "name. (The authors try 0.2 to 0.6 for each task.)",
    },
]


def _mask(
    own: torch.Tensor, total: torch.Tensor, task: str, *, mask_lambda: float | Mapping[str, float]
) -> torch.Tensor:
    """Where |tau_t| >= lambda |sum of all - tau_t|."""
    factor = mask_lambda[task] if isinstance(mask_lambda, Mapping) else mask_lambda
    return own.abs() >= (total - own).abs_().mul_(factor)


def _sum(parameter: Parameter) -> torch.Tensor:
    first, *others = parameter.vectors.values()
    total = first.clone()
    for vector in others:
        total.add_(vector)
    return total


@merging_method("masked", source="Wang et al. 2024, arXiv 2405.07813", mask=_mask)
def tall_masks(parameter: Parameter, *, mask_lambda: Lambda = 0.4) -> torch.Tensor:
    """Keep the sum of the task vectors, and for each task a mask of one bit an entry: where the task's change is in it.

    A task uses theta_0 + mask_t * tau_sum, with mask_t = (|tau_t| >= lambda |tau_sum - tau_t|). So the true task of
    every input has to be known.
    """
    return _sum(parameter)


@merging_method("static", source="Wang et al. 2024, arXiv 2405.07813", scales="scaling")
def consensus(
    parameter: Parameter,
    *,
    mask_lambda: Lambda = 0.4,
    least: Annotated[int, {"minimum": 0, "description": "an entry is kept if so many tasks' masks keep it"}] = 2,
    scaling: Annotated[float, {"description": "factor of the merged vector"}] = 0.3,
) -> torch.Tensor:
    """Consensus Task Arithmetic: the sum of the task vectors without the entries that fewer than two tasks use.

    Which tasks use an entry, their TALL masks say: mask_t = (|tau_t| >= lambda |tau_sum - tau_t|). So what no task uses
    and what one task alone uses goes back to the base: theta_0 + scaling * (sum_t mask_t >= 2) * tau_sum.
    """
    import torch

    total = _sum(parameter)
    users = torch.zeros_like(total)
    for task, own in parameter.vectors.items():
        users.add_(_mask(own, total, task, mask_lambda=mask_lambda))
    return parameter.base.add(total.mul_(users >= least), alpha=scaling)
