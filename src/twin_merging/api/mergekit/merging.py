"""How a tensor is merged by each of mergekit's methods, with the functions of this library's own methods.

Every function gets the inputs of one tensor and the values of the method's parameters for it. It gives the function
that merges a Parameter, which holds some rows of the tensor. Where a merge begins at no base, the base is zero, and a
model's vector is its weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from twin_merging.api.mergekit.pruning import Prune, at_random, by_rank, largest, middle, restored
from twin_merging.api.mergekit.values import Values
from twin_merging.errors import UserError
from twin_merging.merging.elections import Majority, disjoint_merge
from twin_merging.merging.inputs import Inputs
from twin_merging.merging.methods.arithmetic import task_arithmetic
from twin_merging.merging.methods.averaging import model_stock as stock
from twin_merging.merging.methods.averaging import stock_ratios, weight_average
from twin_merging.merging.methods.interpolation import arc
from twin_merging.merging.products import inner_products
from twin_merging.merging.registry import Parameter

if TYPE_CHECKING:
    import torch

Compute = Callable[[Parameter], "torch.Tensor"]
Prepare = Callable[[Inputs, Values], Compute]
LEAST_WEIGHT = 1e-8  # a sum of weights below it divides nothing


def linear(inputs: Inputs, values: Values) -> Compute:
    """sum_t w_t theta_t, divided by sum_t w_t where that is asked for."""
    weights = values.own["weight"]
    if values.shared["normalize"]:
        return lambda parameter: weight_average(parameter, weights=weights)
    return lambda parameter: task_arithmetic(parameter, scaling=weights)


def passthrough(inputs: Inputs, values: Values) -> Compute:
    """The tensor of the one model, times `scale`."""
    return lambda parameter: task_arithmetic(parameter, scaling=values.own["scale"])


def task_vectors(prune: Callable[[Inputs, Values], Prune] | None, elect: bool, is_random: bool = False) -> Prepare:
    """Task Arithmetic, after the vectors are pruned where a pruning is given; with Ties' election where `elect`.

    theta_0 + lambda * sum_t w_t tau_t, divided by the sum of the weights (in an election, of those that agree) where
    that is asked for. `rescale` of a pruning that is not at random restores L1 norms, as of any where mergekit's
    arithmetic is wanted.
    """

    def prepare(inputs: Inputs, values: Values) -> Compute:
        pruned: Prune = prune(inputs, values) if prune else lambda parameter: parameter
        if prune and values.shared["rescale"] and (values.like_mergekit or not is_random):
            pruned = restored(inputs, pruned)
        weights, factor = values.own["weight"], values.shared["lambda"]
        if elect:
            combine = "mean" if values.shared["normalize"] else "sum"

            def elected(parameter: Parameter) -> torch.Tensor:
                own = pruned(parameter).vectors
                change, _ = disjoint_merge(
                    [vector * weights[task] for task, vector in own.items()],
                    "sum",
                    combine,  # type: ignore[arg-type]
                    Majority(),
                    [weights[task] for task in own],
                )
                return change.mul_(factor).add_(parameter.base)

            return elected
        total = sum(weights.values()) if values.shared["normalize"] else 1.0
        divisor = total if abs(total) >= LEAST_WEIGHT else 1.0
        scaling = {task: factor * weight / divisor for task, weight in weights.items()}
        return lambda parameter: task_arithmetic(pruned(parameter), scaling=scaling)

    return prepare


def model_stock(inputs: Inputs, values: Values) -> Compute:
    ratios = stock_ratios(inputs)
    return lambda parameter: stock(parameter, ratios)


def slerp(inputs: Inputs, values: Values) -> Compute:
    """A point of the arc from the first model, which is the base, to the second. Norms are not interpolated."""
    return _between_two(inputs, values.shared["t"])


def nuslerp(inputs: Inputs, values: Values) -> Compute:
    """The same without a limit for nearly parallel vectors, of two models or their task vectors, by their weights."""
    first, second = (values.own["weight"][task] for task in inputs.tasks)
    total = first + second
    return _between_two(inputs, second / total if abs(total) >= 1e-6 else 0.5, parallel=1.0)


def _between_two(inputs: Inputs, t: float, **limit: float) -> Compute:
    first, second = inputs.tasks
    norms, products = _measured(inputs)
    length = norms[first] * norms[second]
    cosine = max(-1.0, min(1.0, products[first, second] / length)) if length > 0 else 1.0
    if cosine == -1:  # opposite vectors have no arc
        factors = 1 - t, t
    else:
        factors = arc(cosine, t, **limit) if cosine < 1 else (1 - t, t)
    scaling = dict(zip((first, second), factors, strict=True))
    return lambda parameter: task_arithmetic(parameter, scaling=scaling)


def multislerp(inputs: Inputs, values: Values) -> Compute:
    """The weighted mean of the directions, at the weighted mean of the norms.

    mergekit describes a step in the tangent space at this mean. Of directions that are projected, and not mapped, to it
    that step is zero: the weighted projections sum to mean - |mean|^2 mean / |mean|^2.
    """
    weights = dict(values.own["weight"])
    if len(weights) == 1:
        return lambda parameter: task_arithmetic(parameter, scaling=dict.fromkeys(weights, 1.0))
    total = sum(weights.values())
    if values.shared["normalize_weights"]:
        weights = {task: weight / total for task, weight in weights.items()}
    norms, products = _measured(inputs)
    eps = values.shared["eps"]
    shares = {task: weight / (norms[task] + eps) for task, weight in weights.items()}
    squares = math.fsum(
        shares[one] * shares[other] * product * (1 if one == other else 2) for (one, other), product in products.items()
    )
    mean = math.sqrt(max(squares, 0.0))
    if mean < eps:
        if len(weights) > 2 and any(norms.values()):
            raise UserError(
                f"{inputs.names[0]}: the directions of the models cancel out by their weights; "
                "give other weights for multislerp"
            )
        return lambda parameter: task_arithmetic(parameter, scaling=weights)
    length = math.fsum(weights[task] * norms[task] for task in weights)
    scaling = {task: share * length / mean for task, share in shares.items()}
    return lambda parameter: task_arithmetic(parameter, scaling=scaling)


def _measured(inputs: Inputs) -> tuple[dict[str, float], Mapping[tuple[str, str], float]]:
    """The norms of the vectors, and the inner products of their pairs."""
    _, products = next(iter(inner_products(inputs)))
    return {task: math.sqrt(products[task, task]) for task in inputs.tasks}, products


ties = task_vectors(largest, elect=True)
arithmetic = task_vectors(None, elect=False)
dare_linear = task_vectors(at_random, elect=False, is_random=True)
dare_ties = task_vectors(at_random, elect=True, is_random=True)
della = task_vectors(by_rank, elect=True, is_random=True)
della_linear = task_vectors(by_rank, elect=False, is_random=True)
breadcrumbs = task_vectors(middle, elect=False)
breadcrumbs_ties = task_vectors(middle, elect=True)
