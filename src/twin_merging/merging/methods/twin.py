"""Twin-Merging: the options of a suite. The folders compression, routing and model do its work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from twin_merging.io.fields import PositiveReal
from twin_merging.merging.registry import merging_method


@merging_method("dynamic", source="Lu et al. 2024, arXiv 2406.15479, algorithm 1")
def twin(
    *,
    shared: Annotated[
        str | None, {"description": "the static method of the suite whose model is the shared expert"}
    ] = None,
    rank: Annotated[int | None, {"minimum": 0, "description": "rank of every exclusive matrix"}] = None,
    fraction: Annotated[
        float | None, {"minimum": 0, "maximum": 1, "description": "rank as a share of min(m, n), at least 1"}
    ] = None,
    energy: Annotated[
        float | None,
        {"minimum": 0, "maximum": 1, "description": "least rank that keeps this share of the squared norm"},
    ] = None,
    router: Annotated[Mapping[str, Any] | None, {"description": "options that differ from the suite's router"}] = None,
    head: Annotated[
        Literal["oracle", "routed", None],
        {"description": "the true task's private parameters, or the routed task's; absent: as the protocol says"},
    ] = None,
    top_k: Annotated[
        int | None, {"minimum": 1, "description": "keep the k largest weights, renormalised; absent: all"}
    ] = None,
    onepass: Annotated[
        bool,
        {
            "description": "one forward pass: the router reads `embedding` or `{layer: k}` on the way, and what lies "
            "before that stays shared"
        },
    ] = False,
    temperature: Annotated[
        PositiveReal | Literal["calibrate"],
        {
            "description": "more than 0: the router's logits are divided by it; `calibrate`: by the number that makes "
            "its weights the likeliest on `validation` rows"
        },
    ] = 1.0,
    lora_space: Annotated[
        Literal["product", "factor"],
        {
            "description": "`factor`: A and B of LoRA experts are decomposed and mixed apart, as the paper's "
            "generative code does, on a shared expert of the same space"
        },
    ] = "product",
    weights: Annotated[
        Literal["router", "uniform", "oracle"],
        {
            "description": "what weighs the exclusive vectors: the router; `uniform`: 1 / T for each of T tasks; "
            "`oracle`: 1 for the true task, which the model is told. The latter two need no router"
        },
    ] = "router",
    store: Annotated[
        Literal["float32", "bfloat16", "int8", "int4"],
        {
            "description": "the number format of the exclusive vectors on disk; int8 and int4 have a scale for each 64 "
            "numbers"
        },
    ] = "float32",
) -> dict[str, Any]:
    """Shared expert plus compressed exclusive vectors, which a router weighs for each input."""
    sizes = {"rank": rank, "fraction": fraction, "energy": energy}
    given = {name: value for name, value in sizes.items() if value is not None}
    if len(given) != 1:
        raise ValueError(f"give exactly one of rank, fraction, energy (here: {', '.join(given) or 'none'})")
    if onepass and lora_space == "factor":
        raise ValueError("onepass: true cannot be with lora_space: factor; leave one of them out")
    if weights != "router":
        _check_fixed(weights, router if not onepass else None, head, top_k, temperature)
    return {
        "shared": shared,
        **given,
        "router": dict(router) if router else None,
        "head": head,
        "top_k": top_k,
        "onepass": onepass,
        "temperature": temperature,
        "lora_space": lora_space,
        # At their defaults these two are left out, so that what was made without them is not made again.
        **({} if weights == "router" else {"weights": weights}),
        **({} if store == "float32" else {"store": store}),
    }


def _check_fixed(
    weights: str, router: Mapping[str, Any] | None, head: str | None, top_k: int | None, temperature: float | str
) -> None:
    """Raise ValueError for an option of a router where there is none."""
    given = {"router": router, "top_k": top_k, "temperature": None if temperature == 1 else temperature}
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"{name} is of a router, which weights: {weights} has not; leave one of them out")
    if head == "routed":
        raise ValueError(f"head: routed needs a router, which weights: {weights} has not; use head: oracle")
