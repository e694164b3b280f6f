"""EMR-Merging: elects one vector for all tasks, then masks and rescales it for each task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twin_merging.merging.registry import Parameter, merging_method

if TYPE_CHECKING:
    import torch


def _agrees(own: torch.Tensor, unified: torch.Tensor, task: str) -> torch.Tensor:
    return own * unified > 0


@merging_method("masked", source="Huang et al. 2024, arXiv 2405.17461", mask=_agrees, rescaled=True)
def emr(parameter: Parameter) -> torch.Tensor:
    """Keep one unified vector for all tasks, and for each task a mask of one bit an entry and one factor.

    Each entry of tau_uni has the sign of sum_t tau_t, and the largest magnitude among the tasks that have this sign. A
    task uses theta_0 + rescale_t * mask_t * tau_uni, with mask_t = (tau_t * tau_uni > 0) and rescale_t = sum |tau_t| /
    sum |mask_t * tau_uni| over the whole vector. So the true task of every input has to be known.
    """
    import torch

    vectors = list(parameter.vectors.values())
    total = torch.zeros_like(vectors[0])
    for vector in vectors:
        total.add_(vector)
    sign = total.sign()
    largest = torch.zeros_like(total)
    for vector in vectors:
        torch.maximum(largest, (vector * sign).relu_(), out=largest)
    return largest.mul_(sign)
