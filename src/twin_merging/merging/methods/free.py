"""FREE-Merging: FR-Merging's model and a sparse expert of each task, which a router chooses. The options of a suite."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from twin_merging.io.fields import PositiveReal
from twin_merging.merging.methods.twin import Head, OwnRouter, Store, twin
from twin_merging.merging.registry import merging_method


@merging_method("dynamic", source="Zheng and Wang 2025, arXiv 2411.16815")
def free_merging(
    *,
    shared: Annotated[
        str | None, {"description": "the static row of `fr_merging`, or another, whose model is the shared expert"}
    ] = None,
    density: Annotated[
        float, {"exclusiveMinimum": 0, "maximum": 1, "description": "share of each row's entries that is kept"}
    ] = 0.02,
    rescale: Annotated[float, {"description": "factor of the kept entries"}] = 8.0,
    router: OwnRouter = None,
    head: Head = None,
    top_k: Annotated[
        int | None, {"minimum": 1, "description": "keep the k largest weights, renormalised; `null`: all"}
    ] = 1,
    temperature: Annotated[
        PositiveReal | Literal["calibrate"], {"description": "as in `twin`; with `top_k: 1` it plays no part"}
    ] = 1.0,
    store: Store = "float32",
) -> dict[str, Any]:
    """FREE-Merging: FR-Merging's model, and of each task the largest entries of what it lacks, which a router chooses.

    A task's expert is `rescale` times the entries of largest magnitude of each row of every matrix of theta_t -
    theta_s, stored with their places. It is `twin` with the size `density`. Parameters that are no matrices are kept
    whole, and not multiplied.
    """
    return twin(
        shared=shared,
        density=density,
        rescale=rescale,
        router=router,
        head=head,
        top_k=top_k,
        temperature=temperature,
        store=store,
    )
