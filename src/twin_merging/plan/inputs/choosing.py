"""What options are chosen from, on validation rows, and what is read of a choice."""

from __future__ import annotations

from collections.abc import Callable

from twin_merging.plan.inputs.files import Wildcards
from twin_merging.plan.inputs.merging import (
    assembled_from,
    merged_factors,
    own_choice,
    task_vectors,
    training_statistics,
)
from twin_merging.plan.inputs.models import base_model, own_experts, shared_model
from twin_merging.plan.inputs.routing import base_of_router, router_of
from twin_merging.suite.suite import Suite


def choices(suite: Suite, wildcards: Wildcards) -> list[str]:
    """What was chosen for all methods."""
    return [file for method in suite.choosing for file in own_choice(suite, {"method": method})]


def validation_scores(suite: Suite, wildcards: Wildcards) -> list[str]:
    """Each merged expert's score on its own task's validation rows, which choices are normalised by."""
    if not suite.methods[wildcards["method"]].choices:
        return []
    return [f"results/{suite.name}/choices/experts/{task}.json" for task in suite.merged(wildcards["method"])]


def tried_from(suite: Suite, wildcards: Wildcards, kind: str) -> list[str]:
    """What a method's candidates are made of, of one kind: a merge's inputs, or a dynamic model's."""
    functions = _TRIED[suite.methods[wildcards["method"]].kind == "dynamic"]
    return functions[kind](suite, wildcards) if kind in functions else []


# What candidates are made of, whether their method is dynamic, by the names of the inputs of rule choose.
_TRIED: dict[bool, dict[str, Callable[[Suite, Wildcards], list[str]]]] = {
    False: {
        "task_vectors": task_vectors,
        "statistics": training_statistics,
        "base": base_model,
        "experts": own_experts,
    },
    True: {
        "shared": shared_model,
        "exclusives": assembled_from,
        "router": router_of,
        "base": base_of_router,
        "factors": merged_factors,
    },
}
