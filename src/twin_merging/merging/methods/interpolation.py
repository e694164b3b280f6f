"""Spherical interpolation between two experts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from twin_merging.merging.inputs import Inputs
from twin_merging.merging.products import inner_products
from twin_merging.merging.registry import Parameter, merging_method

if TYPE_CHECKING:
    import torch

PARALLEL = 0.9995  # above this cosine two experts are interpolated linearly


def arc(cosine: float, t: float, parallel: float = PARALLEL) -> tuple[float, float]:
    """The factors of two vectors at `t` of the arc between them, by the cosine of their angle. Where its magnitude is
    more than `parallel`, they are those of linear interpolation."""
    if abs(cosine) > parallel:
        return 1 - t, t
    angle = math.acos(cosine)
    return math.sin((1 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)


def _two_tasks(options: Mapping[str, Any], tasks: list[str]) -> None:
    if len(tasks) != 2:
        raise ValueError(f"slerp merges two experts, not {len(tasks)} ({', '.join(tasks)}); choose another method")


def _coefficients(inputs: Inputs, *, t: float, of: str, **_: Any) -> dict[str, tuple[float, float]]:
    """For each parameter, the factors of the two experts' weights (or of their task vectors)."""
    one, other = inputs.tasks
    found = {}
    for name, products in inner_products(inputs, of_weights=of == "weights"):
        norms = math.sqrt(products[one, one]), math.sqrt(products[other, other])
        cosine = products[one, other] / (norms[0] * norms[1]) if min(norms) > 0 else 1.0
        found[name] = parts = arc(cosine, t)
        if abs(cosine) <= PARALLEL:
            length = (1 - t) * norms[0] + t * norms[1]
            found[name] = length * parts[0] / norms[0], length * parts[1] / norms[1]
    return found


@merging_method(
    "static",
    source="Shoemake 1985, Animating rotation with quaternion curves",
    prepare=_coefficients,
    check=_two_tasks,
)
def slerp(
    parameter: Parameter,
    coefficients: Mapping[str, tuple[float, float]],
    *,
    t: Annotated[
        float, {"minimum": 0, "maximum": 1, "description": "0: the first expert (in alphabetical order), 1: the second"}
    ] = 0.5,
    of: Annotated[
        Literal["weights", "task_vectors"], {"description": "interpolate the experts' weights, or their task vectors"}
    ] = "weights",
) -> torch.Tensor:
    """Take a point on the great circle between two experts, for each parameter as one flat vector.

    The norm is interpolated linearly. Where the two are nearly parallel (abs(cos) > 0.9995), or one of them is zero,
    the interpolation is linear.
    """
    (a, b), (first, second) = coefficients[parameter.name], parameter.vectors.values()
    if of == "task_vectors":
        return parameter.base + a * first + b * second
    return a * (parameter.base + first) + b * (parameter.base + second)
