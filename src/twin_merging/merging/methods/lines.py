"""LiNeS: scales what another method merged, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from twin_merging.checkpoints.architectures import depths
from twin_merging.errors import UserError
from twin_merging.merging.inputs import Inputs
from twin_merging.merging.registry import Merged, merging_method

if TYPE_CHECKING:
    import torch


def _check(options: Mapping[str, Any], tasks: list[str]) -> None:
    if options["lora_space"] == "factor":
        raise ValueError("lora_space: factor cannot be scaled by layers, as both factors of a product would be; use "
                         "lora_space: product")  # fmt: skip


def _factors(inputs: Inputs, *, alpha: float, beta: float, **_: Any) -> dict[str, float]:
    """The factor of each parameter."""
    found = depths(inputs.names)
    if not found:
        raise UserError("lines: no parameter's name has the number of a layer; use the method in `then` alone")
    return {name: alpha + beta * depth for name, depth in found.items()}


@merging_method(
    "static",
    source="Wang et al. 2025, arXiv 2410.17146",
    prepare=_factors,
    check=_check,
    scales="then",
    wraps=True,
)
def lines(
    merged: Merged,
    factors: Mapping[str, float],
    *,
    alpha: Annotated[float, {"minimum": 0, "description": "factor of the change in the first layer"}],
    beta: Annotated[
        float, {"minimum": 0, "description": "what the factor grows by to the last layer, where it is alpha + beta"}
    ],
    then: Annotated[
        Mapping[str, Any],
        {
            "methods": [
                "breadcrumbs",
                "consensus",
                "dare",
                "della",
                "fr_merging",
                "iso_c",
                "iso_cts",
                "model_stock",
                "task_arithmetic",
                "ties",
                "tsv_m",
                "weight_average",
                "wudi",
            ],
            "description": "`{method: ..., options}` of the method that merges",
        },
    ],
) -> torch.Tensor:
    """LiNeS: merge by another method, then scale its change the more, the deeper the layer.

    The change in layer l of L is multiplied by alpha + beta (l - 1) / (L - 1). Embeddings have the factor of the first
    layer; what lies behind the layers (a last norm, a language model's output layer) has that of the last one. The
    authors take alpha = 1 / T for a sum of T task vectors, and choose beta on validation rows.
    """
    return merged.base + factors[merged.name] * (merged.value - merged.base)
