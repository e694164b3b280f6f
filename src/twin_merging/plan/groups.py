"""Which jobs go to a cluster's scheduler together: short ones of a stage share one submission."""

from __future__ import annotations

from collections.abc import Mapping

from twin_merging.plan.resources import of_job
from twin_merging.plan.settings_parts import Wildcards
from twin_merging.suite.suite import Suite

LONG = 30  # minutes; a job that asks for more goes by itself

# Snakemake refuses a group that a way through the jobs leaves and comes back to. So `choose` stands in none: what it
# chooses is merged, and it tries what is made of merged models.
GROUPS: dict[str, tuple[str, ...]] = {
    "sources": (
        "fetch_base", "fetch_expert", "fetch_adapter", "fetch_data", "fetch_router", "generate_base", "generate_data"
    ),
    "experts": ("finetune", "task_vectors", "training_statistics", "answer_validation"),
    "merged": ("merge", "merge_factors"),
    "routed": ("compress", "compress_factors", "route_features", "route"),
    "answers": ("assemble", "predict"),
    "lm_eval": ("lm_eval",),
    "scores": ("score", "intervals"),
    "tables": ("snapshot", "storage", "card"),
    "figures": ("figure",),
}  # fmt: skip
GROUP_OF = {rule: group for group, rules in GROUPS.items() for rule in rules}


def group_of(suite: Suite, rule: str, wildcards: Wildcards, threads: Mapping[str, int]) -> str | None:
    """The group of a job; None for a long one. The same at each attempt, whatever a further attempt asks for."""
    return GROUP_OF[rule] if of_job(suite, rule, wildcards, threads).runtime <= LONG else None
