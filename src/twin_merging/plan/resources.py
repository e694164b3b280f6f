"""What each job asks of its machine: memory, minutes, disk and GPUs, from the sizes of what its suite reads."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from twin_merging.plan.settings_parts import Wildcards
from twin_merging.plan.sizes import Sizes
from twin_merging.suite.suite import Suite

MEBIBYTE = 2**20
LIBRARIES = 700  # MiB that Python, torch, transformers and the rest take before a job reads anything
LEAST_MINUTES = 10
LEAST_DISK = 100
GATHERING = (0, 0.5)  # as in RULES, of a job of rule predict whose rows other jobs have answered


@dataclass(frozen=True)
class Resources:
    """What a job asks for: MiB of memory, minutes, MiB of disk, and GPUs."""

    mem_mb: int
    runtime: int
    disk_mb: int
    gpu: int


def of_job(
    suite: Suite,
    rule: str,
    wildcards: Wildcards,
    threads: Mapping[str, int] | None = None,
    attempt: int = 1,
    gpus: int = 0,
    shards: int = 1,
) -> Resources:
    """What a job asks for. threads: how many a stage's jobs have; attempt: the how manieth try it is, each asks for
    more memory and time; gpus: how many a job has that runs a model; shards: how many jobs share out the test rows of a model, which one of rule
    predict then gathers."""
    gathers = rule == "predict" and shards > 1
    models, hours = GATHERING if gathers else RULES[rule]
    size = Sizes.of(suite).base / MEBIBYTE
    return Resources(
        mem_mb=math.ceil(LIBRARIES + models * size) * attempt,
        runtime=math.ceil(LEAST_MINUTES + 60 * hours) * attempt,
        disk_mb=math.ceil(LEAST_DISK + models * size),
        gpu=gpus if rule in RUNS_A_MODEL and not gathers else 0,
    )


# Rules whose jobs run a model, and can do so on a GPU.
RUNS_A_MODEL = frozenset(
    ("finetune", "finetune_adapter", "training_statistics", "answer_validation", "choose", "route_features", "predict",
     "predict_shard", "lm_eval", "audit", "plane")
)  # fmt: skip

# Of each rule's job: how many whole models it holds, and hours.
RULES: dict[str, tuple[float, float]] = {
    "fetch_base": (1, 1),
    "fetch_base_decoder": (1, 1),
    "fetch_expert": (1, 1),
    "fetch_adapter": (1, 1),
    "fetch_data": (0, 1),
    "fetch_data_with_shots": (0, 1),
    "fetch_router": (0, 1),
    "generate_base": (4, 1),
    "generate_base_decoder": (4, 1),
    "generate_data": (0, 0),
    "finetune": (6, 12),
    "finetune_adapter": (6, 12),
    "training_statistics": (3, 2),
    "task_vectors": (1, 1),
    "merge": (2, 2),
    "merge_masked": (2, 2),
    "merge_decoder": (2, 2),
    "merge_factors": (1, 2),
    "answer_validation": (3, 1),
    "choose": (5, 8),
    "compress": (1, 2),
    "compress_factors": (1, 2),
    "route_features": (2, 4),
    "route": (1, 2),
    "assemble": (1, 1),
    "assemble_decoder": (1, 1),
    "assemble_factors": (1, 1),
    "predict": (3, 4),
    "predict_shard": (3, 4),
    "score": (0, 0.5),
    "intervals": (0, 1),
    "snapshot": (0, 0.5),
    "storage": (0, 0.5),
    "cost": (0, 0),
    "card": (0, 0),
    "tabulate": (0, 0),
    "lm_eval": (3, 4),
    "lm_eval_table": (0, 0),
    "provenance": (0, 0),
    "audit": (3, 4),
    "crate": (0, 0.5),
    "compare": (0, 0),
    "page": (0, 0),
    "figure": (0, 0),
    "plane": (3, 4),
}
