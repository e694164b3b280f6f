"""What each job asks of its machine: memory, minutes, disk and GPUs, from the sizes of what its suite reads.

RULES has for each rule the function that says what its jobs need. docs/scaling.md explains the terms, and compares what
is asked with what finished jobs took.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from twin_merging.plan import needs_merging as merging
from twin_merging.plan import needs_models as models
from twin_merging.plan import needs_sources as sources
from twin_merging.plan import needs_tables as tables
from twin_merging.plan.settings import RULES as SETTINGS
from twin_merging.plan.settings_parts import Wildcards
from twin_merging.plan.sizes import sizes_of
from twin_merging.plan.work import Need, Work
from twin_merging.suite.suite import Suite

MEBIBYTE = 2**20
LIBRARIES = 520  # MiB that Python, torch, transformers and the rest take before a job reads anything
MARGIN = 1.25  # of memory and disk
LEAST_MINUTES = 10
LEAST_DISK = 100  # MiB
PATIENCE = 3.0  # times the expected time: machines are shared and slower than the one that was measured
# Operations a second of a thread of a processor, and of a GPU; bytes a second from and to a shared disk, with hashing.
OF_A_THREAD, OF_A_GPU, OF_A_DISK = 3e10, 3e13, 2e8
OF_MEMORY, OF_GPU_MEMORY = 1e10, 1e12  # bytes of weights a second


@dataclass(frozen=True)
class Resources:
    """What a job asks for: MiB of memory, minutes, MiB of disk (for what it reads and writes), and GPUs."""

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
    more memory and time; gpus: how many a job has that runs a model; shards: how many jobs share out the test rows of a
    model, which the job of rule predict then gathers."""
    gathers = rule == "predict" and shards > 1
    need = needed(suite, rule, wildcards, threads, gathers)
    count = gpus if rule in RUNS_A_MODEL and not gathers else 0
    return Resources(
        mem_mb=math.ceil(MARGIN * (LIBRARIES + need.memory / MEBIBYTE)) * attempt,
        runtime=math.ceil(LEAST_MINUTES + PATIENCE * seconds(need, threads_of(rule, threads), count) / 60) * attempt,
        disk_mb=math.ceil(LEAST_DISK + MARGIN * (need.read + need.written) / MEBIBYTE),
        gpu=count,
    )


def needed(
    suite: Suite, rule: str, wildcards: Wildcards, threads: Mapping[str, int] | None = None, gathers: bool = False
) -> Need:
    """What a job needs, as far as sizes tell. gathers: it is of rule predict, and others answer the rows."""
    function = models.gather if gathers else RULES[rule]
    return function(Work(suite, sizes_of(suite), wildcards, threads_of(rule, threads)))


def seconds(need: Need, threads: int, gpus: int = 0) -> float:
    """How long a job is expected to take."""
    speed = gpus * OF_A_GPU or threads * OF_A_THREAD
    reading = need.weights / (gpus * OF_GPU_MEMORY or OF_MEMORY)
    return need.operations / speed + reading + need.seconds + (need.read + need.written) / OF_A_DISK


def threads_of(rule: str, threads: Mapping[str, int] | None) -> int:
    """How many threads a rule's jobs have."""
    stage = SETTINGS[rule][0] if rule in SETTINGS else rule
    return (threads or {}).get(stage, 1)


# Rules whose jobs run a model, and can do so on a GPU.
RUNS_A_MODEL = frozenset(
    ("finetune", "finetune_adapter", "answer_validation", "choose", "route_features", "predict",
     "predict_shard", "lm_eval", "audit", "plane")
)  # fmt: skip

RULES: dict[str, Callable[[Work], Need]] = {
    "fetch_base": sources.fetch_base,
    "fetch_base_decoder": sources.fetch_base,
    "fetch_expert": sources.fetch_expert,
    "fetch_adapter": sources.fetch_expert,
    "fetch_data": sources.fetch_data,
    "fetch_data_with_shots": sources.fetch_data,
    "fetch_router": sources.fetch_router,
    "generate_base": sources.generate_base,
    "generate_base_decoder": sources.generate_base,
    "generate_data": sources.generate_data,
    "finetune": sources.finetune,
    "finetune_adapter": sources.finetune,
    "training_statistics": models.training_statistics,
    "joint_statistics": models.joint_statistics,
    "task_vectors": merging.task_vectors,
    "merge": merging.merge,
    "merge_masked": merging.merge,
    "merge_decoder": merging.merge,
    "merge_factors": merging.merge_factors,
    "answer_validation": models.answer_validation,
    "choose": models.choose,
    "compress": merging.compress,
    "compress_factors": merging.compress_factors,
    "route_features": models.route_features,
    "route": models.route,
    "assemble": merging.assemble,
    "assemble_decoder": merging.assemble,
    "assemble_factors": merging.assemble,
    "predict": models.predict,
    "predict_shard": models.predict_shard,
    "score": tables.of_answers,
    "intervals": tables.intervals,
    "snapshot": tables.of_answers,
    "storage": tables.storage,
    "cost": tables.small,
    "card": tables.card,
    "tabulate": tables.of_answers,
    "lm_eval": models.lm_eval,
    "lm_eval_table": tables.small,
    "provenance": tables.small,
    "audit": models.audit,
    "crate": tables.crate,
    "compare": tables.small,
    "page": tables.page,
    "figure": tables.figure,
    "plane": models.plane,
}
