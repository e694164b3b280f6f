"""How a tensor's task vectors are pruned before they are merged: each by its own model's density.

Every function gets the inputs of one tensor and the values for it, and gives the function that prunes a Parameter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from twin_merging.api.mergekit.values import Values
from twin_merging.merging.inputs import Inputs
from twin_merging.merging.magnitudes import magnitudes_at, trim
from twin_merging.merging.methods.pruning import between, breadcrumb_ranks
from twin_merging.merging.products import by_pieces
from twin_merging.merging.randomness import drop_at_random, drop_by_rank, numbers_of
from twin_merging.merging.registry import Parameter

if TYPE_CHECKING:
    import torch

Prune = Callable[[Parameter], Parameter]
Masked = Callable[[Parameter, str, "torch.Tensor"], "torch.Tensor"]
LEAST_NORM = 1e-7  # L1 norms below it are not restored


def largest(inputs: Inputs, values: Values) -> Prune:
    """Ties: the floor(density n) largest of a tensor's n entries are kept, at least one, and all that are as large as
    the smallest of these."""
    return _between_ranks(inputs, values, lambda count, density: [max(1, count - max(1, int(density * count)) + 1)])


def middle(inputs: Inputs, values: Values) -> Prune:
    """Model Breadcrumbs: the floor(gamma n) largest are dropped, and of the rest the floor(density n) largest kept."""
    return _between_ranks(inputs, values, breadcrumb_ranks, "gamma")


def _between_ranks(inputs: Inputs, values: Values, ranks: Callable[..., list[int]], *names: str) -> Prune:
    """Keep of each model's vector what lies between two ranks of the tensor's magnitudes, or above one."""
    pruned = _pruned_models(inputs, values)
    if not pruned:
        return lambda parameter: parameter
    settings = {task: tuple(values.own[name][task] for name in ("density", *names)) for task in pruned}
    kinds = list(dict.fromkeys(settings.values()))
    found = magnitudes_at(inputs, lambda count: [rank for kind in kinds for rank in ranks(count, *kind)], "tensor")

    def kept(parameter: Parameter, task: str, vector: torch.Tensor) -> torch.Tensor:
        bounds = found.of(task, parameter.name)
        width = len(bounds) // len(kinds)
        first = kinds.index(settings[task]) * width
        own = bounds[first : first + width]
        return trim(vector, own[0]) if width == 1 else between(vector, *own)

    return _masking(dict.fromkeys(pruned, kept))


def at_random(inputs: Inputs, values: Values) -> Prune:
    """DARE: each entry is kept with the probability `density`, and then divided by it."""

    def dropped(parameter: Parameter, task: str, vector: torch.Tensor) -> torch.Tensor:
        found = drop_at_random(vector, numbers_of(parameter, task, values.seed), 1 - values.own["density"][task])
        return found if values.divides else vector * (found != 0)

    return _masking(dict.fromkeys(_pruned_models(inputs, values), dropped))


def by_rank(inputs: Inputs, values: Values) -> Prune:
    """DELLA: small entries of a row are kept less often than large ones, and what is kept is divided by the probability
    of that."""

    def dropped(parameter: Parameter, task: str, vector: torch.Tensor) -> torch.Tensor:
        numbers = numbers_of(parameter, task, values.seed)
        found = drop_by_rank(vector, numbers, values.own["density"][task], values.own["epsilon"][task])
        return found if values.divides else vector * (found != 0)

    return _masking(dict.fromkeys(_pruned_models(inputs, values), dropped))


def _pruned_models(inputs: Inputs, values: Values) -> list[str]:
    return [task for task in inputs.tasks if values.own["density"][task] < 1]


def _masking(masks: Mapping[str, Masked]) -> Prune:
    """Mask the vectors of some models."""

    def masked(parameter: Parameter) -> Parameter:
        own = {
            task: masks[task](parameter, task, vector) if task in masks else vector
            for task, vector in parameter.vectors.items()
        }
        return replace(parameter, vectors=own)

    return masked


def restored(inputs: Inputs, mask: Prune) -> Prune:
    """The same pruning, after which each model's vector of the tensor has the L1 norm that it had before. Norms near 0
    are left as they are."""

    def norms(parameter: Parameter) -> list[tuple[dict[str, float], dict[str, float]]]:
        kept = mask(parameter).vectors
        pieces = zip(by_pieces(parameter, parameter.vectors), by_pieces(parameter, kept), strict=True)
        return [(_sums(before), _sums(after)) for before, after in pieces]

    parts = [part for _, found in inputs.fold(norms, "measuring norms") for part in found]
    factors = {}
    for task in inputs.tasks:
        before, after = (math.fsum(part[side][task] for part in parts) for side in (0, 1))
        factors[task] = before / after if min(before, after) >= LEAST_NORM else 1.0

    def scaled(parameter: Parameter) -> Parameter:
        vectors = {task: vector * factors[task] for task, vector in mask(parameter).vectors.items()}
        return replace(parameter, vectors=vectors)

    return scaled


def _sums(vectors: Mapping[str, torch.Tensor]) -> dict[str, float]:
    return {task: float(vector.abs().sum()) for task, vector in vectors.items()}
