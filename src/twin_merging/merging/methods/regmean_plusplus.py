"""RegMean++: RegMean on what the merged model's own earlier layers give."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twin_merging.merging.methods.regression import Alpha, regmean
from twin_merging.merging.registry import Parameter, merging_method

if TYPE_CHECKING:
    import torch


@merging_method("static", source="Nguyen et al. 2025, arXiv 2508.03121", whole=True, statistics="merged-grams")
def regmean_plusplus(
    parameter: Parameter,
    *,
    alpha: Alpha = 0.9,
) -> torch.Tensor:
    """RegMean layer by layer, each on the hidden states that the merged layers before it give.

    As `regmean`, but X_t of layer l are the inputs that expert t's layer l has behind the layers that are merged
    already, on task t's rows. What lies before and behind the layers is averaged.
    """
    return regmean(parameter, alpha=alpha)
