"""Which jobs go to a cluster's scheduler together: short ones of a stage share one submission."""

from __future__ import annotations

from collections.abc import Mapping

from twin_merging.plan.inputs import base_source, data_source, expert_source, routed_texts
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
    "merged": ("joint_statistics", "merge", "merge_factors"),
    "routed": ("compress", "compress_factors", "route_features", "route"),
    "answers": ("assemble", "predict"),
    "lm_eval": ("lm_eval",),
    "scores": ("score", "intervals"),
    "tables": ("snapshot", "storage", "card"),
    "figures": ("figure",),
}  # fmt: skip
GROUP_OF = {rule: group for group, rules in GROUPS.items() for rule in rules}
# Of jobs that gather what the shards of a prediction have answered. A shard stands between `assemble` and `predict`,
# and is submitted by itself.
GATHERED = "gathered"

# Rules that read files of the machine where the run was started, if a suite names some.
SOURCES = {
    **dict.fromkeys(("fetch_base", "fetch_base_decoder"), base_source),
    **dict.fromkeys(("fetch_expert", "fetch_adapter"), expert_source),
    **dict.fromkeys(("fetch_data", "fetch_data_with_shots"), data_source),
    "route_features": routed_texts,
}


def group_of(
    suite: Suite, rule: str, wildcards: Wildcards, threads: Mapping[str, int], shards: int = 1, apart: bool = False
) -> str | None:
    """The group of a job; None for a long one. The same at each attempt, whatever a further attempt asks for.

    shards: how many jobs share out the test rows of a model. apart: whether jobs run on machines that share no disk
    with the one where the run was started. Then a job that reads files of that machine runs there, in no group.
    """
    if rule == "predict" and shards > 1:
        return GATHERED
    if apart and rule in SOURCES and SOURCES[rule](suite, wildcards):
        return None
    return GROUP_OF[rule] if of_job(suite, rule, wildcards, threads).runtime <= LONG else None
