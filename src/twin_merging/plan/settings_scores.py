"""Settings of scores, tables, and what goes with them."""

from __future__ import annotations

from twin_merging.checkpoints.groups import GROUPS
from twin_merging.plan.settings_parts import Settings, Wildcards
from twin_merging.plan.targets import job_name, making, tables
from twin_merging.suite.suite import Suite


def protocol_name(suite: Suite, model: str) -> str:
    """The protocol a model was made under; a model that is not merged has none."""
    return suite.methods[model].protocol if model in suite.methods else "none"


def true_task(suite: Suite, model: str) -> str:
    """What a model is told of the task that a test row comes from: its private parameters, its masks, how to weigh the
    exclusive vectors, or nothing."""
    has_heads = any(task.whole.head for task in suite.tasks.values())
    if model not in suite.methods:
        return "head" if has_heads else "nothing"
    chosen = ["masks"] * (model in suite.masked) + ["weights"] * (model in suite.told)
    groups = [group for group in suite.private_groups(model) if has_heads or group != "head"]
    return "nothing" if suite.head(model) == "routed" else "+".join([*groups, *chosen]) or "nothing"


def _knowledge(suite: Suite, model: str) -> dict[str, str]:
    return {"protocol": protocol_name(suite, model), "true_task": true_task(suite, model)}


def score(suite: Suite, wildcards: Wildcards, threads: int) -> Settings:
    """`evaluated`: the tasks of each model that does not answer all."""
    answered = {name: suite.evaluated(name) for name in suite.methods}
    evaluated = {name: tasks for name, tasks in answered.items() if tasks != list(suite.tasks)}
    return {
        "metrics": {name: task.metric for name, task in suite.tasks.items()},
        "protocols": {model: protocol_name(suite, model) for model in suite.models},
        **({"evaluated": evaluated} if evaluated else {}),
        "threads": threads,
    }


def subsets(suite: Suite) -> Settings:
    """The tasks of each model that is not about all of them; no key where there is none."""
    found = {
        name: {"merged": list(entry.merged), "left_out": list(entry.left_out)}
        for name, entry in suite.methods.items()
        if name not in suite.of_all_tasks
    }
    return {"subsets": found} if found else {}


def told_more(suite: Suite) -> list[str]:
    """The merged models that are told more of the true task than which private parameters to use, as masks."""
    return [name for name in suite.methods if not {*true_task(suite, name).split("+")} <= {*GROUPS, "nothing"}]


def intervals(suite: Suite, wildcards: Wildcards, threads: int) -> Settings:
    """`static`: the models that others are compared with; `competing`: those of which the best are marked."""
    more = told_more(suite)
    return {
        "models": suite.models,
        "metrics": {name: task.metric for name, task in suite.tasks.items()},
        **subsets(suite),
        "static": suite.static,
        "competing": [name for name in suite.methods if name not in more],
        "threads": threads,
    }


def storage(suite: Suite, wildcards: Wildcards, threads: int) -> Settings:
    """Of each merged model its kind and the number format of its exclusives, and the tasks whose experts are adapters.
    Tasks in alphabetical order, which changes nothing."""
    return {
        "models": {
            name: {"kind": entry.kind, "store": entry.options.get("store"), "tasks": sorted(suite.evaluated(name))}
            for name, entry in suite.methods.items()
        },
        "tasks": sorted(suite.tasks),
        "adapters": [name for name, task in sorted(suite.tasks.items()) if task.expert.is_adapter],
        "threads": threads,
    }


def cost(suite: Suite, wildcards: Wildcards, threads: int) -> Settings:
    """The jobs that make each model, from task vectors on, and those that ask it, by the names of their records."""
    asked = {model: [model] for model in ("pretrained", *suite.methods)}
    asked["experts"] = [f"expert-{task}" for task in suite.tasks]
    return {
        "models": {
            model: {
                "making": [job_name(job) for job in making(suite, model)] if model in suite.methods else [],
                "asking": [job_name(("predict", {"model": own})) for own in models],
            }
            for model, models in asked.items()
        },
        "title": suite.says.title,
        "threads": threads,
    }


def card(suite: Suite, wildcards: Wildcards, threads: int) -> Settings:
    experts = {name: suite.tasks[name].expert.plain() for name in suite.evaluated(wildcards["method"])}
    return {
        "name": wildcards["method"],
        "title": suite.says.title,
        "sources": {"base": suite.says.base.origin(), **experts},
        "family": suite.family,
        "threads": threads,
    }


def tabulate(suite: Suite, wildcards: Wildcards, threads: int) -> Settings:
    merged = {model: _knowledge(suite, model) for model in ("pretrained", *suite.methods)}
    return {
        "title": suite.says.title,
        "tasks": list(suite.tasks),
        **subsets(suite),
        "dynamic": suite.with_router,
        "knowledge": {**merged, "experts": {"protocol": "none", "true_task": "everything"}},
        "protocols": {entry.protocol: dict(suite.protocol(name).groups) for name, entry in suite.methods.items()},
        "told_more": told_more(suite),
        "threads": threads,
    }


# Parts of a suite that its scores do not rest on.
_NO_OPTIONS = ("title", "published", "lm_eval")


def snapshot(suite: Suite, wildcards: Wildcards, threads: int) -> Settings:
    """What a snapshot says of its suite: all that the scores rest on, and what tells the models apart."""
    kinds = {name: entry.kind for name, entry in suite.methods.items()}
    left_out = {name: {"left_out": list(entry.left_out)} for name, entry in suite.methods.items() if entry.left_out}
    return {
        "options": {key: value for key, value in suite.content.items() if key not in _NO_OPTIONS},
        "models": {
            model: {"kind": kinds.get(model, "none"), **_knowledge(suite, model), **left_out.get(model, {})}
            for model in suite.models
        },
        "threads": threads,
    }


def provenance(suite: Suite, wildcards: Wildcards, threads: int) -> Settings:
    """The suite in full: what its audit holds the results against."""
    return {
        "suite": {"name": suite.name, "file": str(suite.file), "content": suite.content},
        "models": {model: _knowledge(suite, model) for model in suite.models},
        "tables": tables(suite),
        "threads": threads,
    }


def audit(suite: Suite, wildcards: Wildcards, threads: int) -> Settings:
    return {"threads": threads}


def compare(suite: Suite, wildcards: Wildcards, threads: int) -> Settings:
    return {"title": suite.says.title, "tasks": list(suite.tasks), **subsets(suite), "threads": threads}
