"""Twin-Merging, and TSV-C, which is it without a shared expert and without a router: the options of a suite.

The folders compression, routing and model do the work of both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from twin_merging.io.fields import PositiveReal
from twin_merging.merging.registry import merging_method

Rank = Annotated[int | None, {"minimum": 0, "description": "rank of every exclusive matrix"}]
Fraction = Annotated[
    float | None, {"minimum": 0, "maximum": 1, "description": "rank as a share of min(m, n), at least 1"}
]
Energy = Annotated[
    float | None,
    {"minimum": 0, "maximum": 1, "description": "least rank that keeps this share of the squared norm"},
]
OwnRouter = Annotated[Mapping[str, Any] | None, {"description": "options that differ from the suite's router"}]
Head = Annotated[
    Literal["oracle", "routed", None],
    {"description": "the true task's private parameters, or the routed task's; absent: as the protocol says"},
]
BaseBody = Annotated[
    str | None,
    {
        "description": "the static row that is the base's body: `task_arithmetic` with `scaling: 0`. Absent: such "
        "a row is added, called `pretrained-` and the protocol's name"
    },
]
Store = Annotated[
    Literal["float32", "bfloat16", "int8", "int4"],
    {
        "description": "the number format of the exclusive vectors on disk; int8 and int4 have a scale for each 64 "
        "numbers"
    },
]


@merging_method("dynamic", source="Lu et al. 2024, arXiv 2406.15479, algorithm 1")
def twin(
    *,
    shared: Annotated[
        str | None, {"description": "the static method of the suite whose model is the shared expert"}
    ] = None,
    rank: Rank = None,
    fraction: Fraction = None,
    energy: Energy = None,
    density: Annotated[
        float | None,
        {
            "exclusiveMinimum": 0,
            "maximum": 1,
            "description": "in the place of a rank: exclusive matrices are sparse, and each row keeps this share of "
            "its entries, those of largest magnitude and at least one",
        },
    ] = None,
    rescale: Annotated[float | None, {"description": "with `density`: factor of the kept entries; absent: 1"}] = None,
    router: OwnRouter = None,
    head: Head = None,
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
        Literal["router", "expected_loss", "uniform", "oracle"],
        {
            "description": "what weighs the exclusive vectors: the router; `expected_loss`: 1 for the task with the "
            "highest expected score, by the router's weights and scores of `validation` rows under each task's vector; "
            "`uniform`: 1 / T for each of T tasks; `oracle`: 1 for the true task, which the model is told. The latter "
            "two need no router"
        },
    ] = "router",
    store: Store = "float32",
) -> dict[str, Any]:
    """Shared expert plus compressed exclusive vectors, which a router weighs for each input."""
    given = _one_size(rank=rank, fraction=fraction, energy=energy, density=density)
    if density is None and rescale is not None:
        raise ValueError(
            "rescale is the factor of sparse matrices; give density in the place of a rank, or leave it out"
        )
    if density is not None:
        _check_sparse(store, lora_space)
        given["rescale"] = 1.0 if rescale is None else rescale
    if onepass and lora_space == "factor":
        raise ValueError("onepass: true cannot be with lora_space: factor; leave one of them out")
    if weights in ("uniform", "oracle"):
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


def _check_sparse(store: str, lora_space: str) -> None:
    """Raise ValueError for what sparse matrices have not."""
    if store in ("int8", "int4"):
        raise ValueError(f"store: {store} is a format of low-rank factors; with density use float32 or bfloat16")
    if lora_space == "factor":
        raise ValueError("density cannot be with lora_space: factor, which cuts A and B; use a rank")


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


@merging_method("dynamic", source="Gargiulo et al. 2025, arXiv 2412.00081, section 4", on_base=True)
def tsv_c(
    *,
    shared: BaseBody = None,
    rank: Rank = None,
    fraction: Fraction = None,
    energy: Energy = None,
    store: Store = "float32",
) -> dict[str, Any]:
    """TSV-Compress: the base plus the leading singular triples of the true task's vector, which the model is told.

    theta_0 + the first k triples of each matrix of tau_t; parameters that are no matrices are those of the task's
    expert. It merges nothing: each task is stored by itself. It is `twin` with the base in the place of the shared
    expert and `weights: oracle`, at the same storage.
    """
    given = _one_size(rank=rank, fraction=fraction, energy=energy)
    return twin(shared=shared, **given, weights="oracle", store=store)


def _one_size(**sizes: float | None) -> dict[str, Any]:
    given = {name: value for name, value in sizes.items() if value is not None}
    if len(given) != 1:
        raise ValueError(f"give exactly one of {', '.join(sizes)} (here: {', '.join(given) or 'none'})")
    return given
