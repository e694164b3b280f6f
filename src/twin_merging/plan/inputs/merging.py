"""What stages merge, compress and assemble read."""

from __future__ import annotations

from twin_merging.plan.inputs.files import Wildcards
from twin_merging.plan.settings_models import linear_coefficients
from twin_merging.suite.suite import Suite


def task_vectors(suite: Suite, wildcards: Wildcards) -> list[str]:
    """What a method merges: the one that is made, or whose factors are."""
    merged = suite.merged(wildcards.get("method") or wildcards["shared"])
    return [f"results/{suite.name}/task_vectors/{task}.safetensors" for task in merged]


def training_statistics(suite: Suite, wildcards: Wildcards) -> list[str]:
    """What a method needs of the experts' training rows: a file a task, or the folder that holds them where they are
    found with all experts at once; nothing for most methods."""
    method = wildcards["method"]
    kind = suite.method(method).statistics
    if suite.method(method).joint:
        return [f"results/{suite.name}/joint_statistics/{method}"]
    return [f"results/{suite.name}/statistics/{kind}/{task}.safetensors" for task in suite.merged(method) if kind]


def own_task_vector(suite: Suite, wildcards: Wildcards) -> list[str]:
    return [f"results/{suite.name}/task_vectors/{wildcards['task']}.safetensors"]


def compressed_from(suite: Suite, wildcards: Wildcards) -> list[str]:
    """Task vectors that a difference is made of: the task's own, or all for a linear sum of LoRA adapters."""
    linear = linear_coefficients(suite, wildcards["shared"])
    return [f"results/{suite.name}/task_vectors/{task}.safetensors" for task in linear or [wildcards["task"]]]


def exclusives(suite: Suite, shared: str) -> list[str]:
    """Exclusive files of all merged tasks against a shared expert."""
    return [f"results/{suite.name}/exclusive/{shared}/{task}.safetensors" for task in suite.merged(shared)]


def merged_factors(suite: Suite, wildcards: Wildcards) -> list[str]:
    """The shared factors that a dynamic method in factor space is made of; nothing for another."""
    method = wildcards["method"]
    in_factors = suite.lora_space(method) == "factor"
    return [f"results/{suite.name}/factors/{suite.shared(method)}/merged.safetensors"] if in_factors else []


def assembled_from(suite: Suite, wildcards: Wildcards) -> list[str]:
    method = wildcards["method"]
    shared = suite.shared(method)
    if suite.lora_space(method) == "factor":
        folder = f"results/{suite.name}/factors/{shared}/exclusive"
        return [f"{folder}/{task}.safetensors" for task in suite.merged(shared)]
    return exclusives(suite, shared)


def own_choice(suite: Suite, wildcards: Wildcards) -> list[str]:
    """What was chosen for a method; nothing where all of its options are numbers."""
    method = wildcards["method"]
    return [f"results/{suite.name}/choices/{method}.json"] if suite.methods[method].is_tried else []


def shared_choice(suite: Suite, wildcards: Wildcards) -> list[str]:
    """What was chosen for a shared expert; nothing where all of its options are numbers."""
    return own_choice(suite, {"method": wildcards["shared"]})


def chosen_coefficients(suite: Suite, wildcards: Wildcards) -> list[str]:
    """The same, where exclusive vectors are computed from the coefficients of a linear sum of LoRA adapters."""
    return shared_choice(suite, wildcards) if linear_coefficients(suite, wildcards["shared"]) else []
