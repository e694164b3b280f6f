"""Averages of the experts: plain, weighted by Fisher information, or shortened by the angles between task vectors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Annotated, Any

from twin_merging.merging.inputs import Inputs
from twin_merging.merging.products import inner_products
from twin_merging.merging.registry import Parameter, merging_method

if TYPE_CHECKING:
    import torch

SINGULAR = 1e-6  # model_stock: a denominator below it has no finite ratio


def _check_weights(options: Mapping[str, Any], tasks: list[str]) -> None:
    if options["weights"] is not None and sum(options["weights"].values()) == 0:
        raise ValueError("the weights sum to 0; give at least one task a share")


def _shares(options: Mapping[str, Any], tasks: list[str]) -> dict[str, float]:
    weights = options["weights"] or dict.fromkeys(tasks, 1.0)
    total = sum(weights.values())
    return {task: weights[task] / total for task in tasks}


@merging_method("static", source="Wortsman et al. 2022, arXiv 2203.05482", check=_check_weights, linear=_shares)
def weight_average(
    parameter: Parameter,
    *,
    weights: Annotated[
        Mapping[str, float] | None,
        {"description": "each task's share, in any unit; equal shares when absent"},
    ] = None,
) -> torch.Tensor:
    """Mean of the experts: theta_0 + sum_t a_t tau_t, with shares a_t that sum to 1."""
    shares = _shares({"weights": weights}, list(parameter.vectors))
    merged = parameter.base.clone()
    for task, vector in parameter.vectors.items():
        merged.add_(vector, alpha=shares[task])
    return merged


@merging_method("static", source="Matena and Raffel 2022, arXiv 2111.09832", statistics="fisher")
def fisher(
    parameter: Parameter,
    *,
    floor: Annotated[
        float, {"exclusiveMinimum": 0, "description": "least Fisher information of an entry, after normalisation"}
    ] = 1e-6,
) -> torch.Tensor:
    """Average the experts entry by entry, weighted by their diagonal Fisher information: sum_t F_t theta_t / sum_t F_t.

    Before that, each F_t is scaled to norm 1 over the whole model.
    """
    weighted, total = parameter.base.new_zeros(parameter.base.shape), parameter.base.new_zeros(parameter.base.shape)
    for task, vector in parameter.vectors.items():
        information = parameter.statistics[task].clamp(min=floor)
        weighted.addcmul_(information, vector)
        total.add_(information)
    return parameter.base + weighted.div_(total)


def stock_ratios(inputs: Inputs, **_: Any) -> dict[str, float]:
    """The ratio t of each parameter, computed from the mean cosine of all pairs of its task vectors."""
    ratios = {}
    for name, products in inner_products(inputs):
        norms = {task: math.sqrt(products[task, task]) for task in inputs.tasks}
        pairs = [(one, other) for one, other in combinations(inputs.tasks, 2)]
        cosines = [products[pair] / (norms[pair[0]] * norms[pair[1]] or math.inf) for pair in pairs]
        cosine = math.fsum(cosines) / len(cosines) if cosines else 1.0
        count = len(norms)
        share = 1 + (count - 1) * cosine
        ratios[name] = count * cosine / share if abs(share) > SINGULAR else 0.0
    return ratios


@merging_method("static", source="Jang et al. 2024, arXiv 2403.19522", prepare=stock_ratios)
def model_stock(parameter: Parameter, ratios: Mapping[str, float]) -> torch.Tensor:
    """Go from the base towards the average of the experts, for each parameter by itself: theta_0 + r mean_t tau_t.

    With T tasks, r = T cos / (1 + (T - 1) cos), where cos is the mean cosine of all pairs of the parameter's task
    vectors. So vectors that point the same way take the merged model to the average. Where that is no finite number
    (two opposite vectors), the base is kept.
    """
    merged = parameter.base.clone()
    for vector in parameter.vectors.values():
        merged.add_(vector, alpha=ratios[parameter.name] / len(parameter.vectors))
    return merged
