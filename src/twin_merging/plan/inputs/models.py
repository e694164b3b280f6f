"""What the base, experts and models consist of."""

from __future__ import annotations

from collections.abc import Iterable

from twin_merging.plan import weight_files
from twin_merging.plan.inputs.files import ADAPTER, CONFIG, TOKENIZER, Wildcards, inside
from twin_merging.suite.suite import PRETRAINED, Suite
from twin_merging.tasks.families import whole_model


def base_files(suite: Suite, *names: str) -> list[str]:
    return inside(f"results/{suite.name}/base", *names)


def base_model(suite: Suite, wildcards: Wildcards) -> list[str]:
    """The base as a model that can be loaded."""
    return [*base_alone(suite, wildcards), *base_files(suite, *beside(suite))]


def base_alone(suite: Suite, wildcards: Wildcards) -> list[str]:
    """The same without what only an answer needs."""
    return base_files(suite, *CONFIG, *weight_files.base_weights(suite), *TOKENIZER)


def base_weights(suite: Suite, wildcards: Wildcards) -> list[str]:
    return base_files(suite, *weight_files.base_weights(suite))


def beside(suite: Suite) -> tuple[str, ...]:
    """What a model of the suite's family has beside the files of every model."""
    return whole_model(suite.family).beside


def expert_files(suite: Suite, wildcards: Wildcards) -> list[str]:
    """What an expert consists of: a checkpoint and its configuration, or an adapter and its."""
    task = wildcards["task"]
    names = ADAPTER if suite.tasks[task].expert.is_adapter else [*CONFIG, *weight_files.weights(suite)]
    return inside(f"results/{suite.name}/experts/{task}", *names)


def files_of_experts(suite: Suite, tasks: Iterable[str]) -> list[str]:
    return [file for task in tasks for file in expert_files(suite, {"task": task})]


def all_expert_files(suite: Suite, wildcards: Wildcards) -> list[str]:
    return files_of_experts(suite, suite.tasks)


def own_experts(suite: Suite, wildcards: Wildcards) -> list[str]:
    """The experts that a method merges."""
    return files_of_experts(suite, suite.merged(wildcards["method"]))


def merged_expert_files(suite: Suite, wildcards: Wildcards) -> list[str]:
    """The experts that a method keeps something of: those that it merges, and those whose heads it has."""
    return files_of_experts(suite, suite.evaluated(wildcards["method"]))


def directory_of(suite: Suite, method: str) -> list[str]:
    unified = ["unified.safetensors"] if method in suite.masked else []
    parts = {"dynamic": ["exclusive", "router"], "masked": ["masks"]}.get(suite.methods[method].kind, [])
    if method in suite.dynamic and suite.lora_space(method) == "factor":
        parts = [*parts, "shared"]
    folder = f"results/{suite.name}/models/{method}"
    return inside(folder, *_model(suite), *beside(suite), "merge.json", *unified, "private", *parts)


def _model(suite: Suite) -> list[str]:
    """The files of a merged model that every model has."""
    return [*CONFIG, *weight_files.weights(suite), *TOKENIZER]


def shared_model(suite: Suite, wildcards: Wildcards) -> list[str]:
    return directory_of(suite, suite.shared(wildcards["method"]))


def model_files(suite: Suite, wildcards: Wildcards) -> list[str]:
    """What a model consists of: a merged model's directory, or base and experts for one that is not merged."""
    model = wildcards.get("model") or wildcards["method"]
    if model not in suite.methods:
        return [*base_model(suite, wildcards), *all_expert_files(suite, wildcards)]
    return directory_of(suite, model)


def merged_models(suite: Suite, wildcards: Wildcards) -> list[str]:
    """What all merged models consist of."""
    return [file for method in suite.methods for file in directory_of(suite, method)]


def shared_body(suite: Suite, wildcards: Wildcards) -> list[str]:
    """The weights of a shared expert, and what follows them."""
    return inside(f"results/{suite.name}/models/{wildcards['shared']}", *weight_files.weights(suite), "merge.json")


def read_by_router(suite: Suite, wildcards: Wildcards) -> list[str]:
    """The shared expert, or the base, as a model that can be loaded, but for what only an answer needs."""
    if wildcards["shared"] == PRETRAINED:
        return base_alone(suite, wildcards)
    return inside(f"results/{suite.name}/models/{wildcards['shared']}", *_model(suite), "merge.json")
