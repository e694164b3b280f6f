"""Settings of what is merged, routed and answered."""

from __future__ import annotations

from twin_merging.merging.choices import first_of
from twin_merging.merging.options import coefficients
from twin_merging.plan import weight_files
from twin_merging.plan.settings_parts import Settings, Wildcards, of_task, of_tasks
from twin_merging.routing.layers import features_named
from twin_merging.routing.options import SEEDED
from twin_merging.suite.suite import Suite


def training_statistics(suite: Suite, wildcards: Wildcards, threads: int) -> Settings:
    return {
        "kind": wildcards["kind"],
        **of_task(suite, wildcards, lambda task: task.answered_as()),
        "rows": suite.says.statistics.rows,
        "max_length": suite.says.inference.max_length,
        "threads": threads,
    }


def joint_statistics(suite: Suite, wildcards: Wildcards, threads: int) -> Settings:
    """As for the merge of the method; and how the tasks' training rows are read and answered, in alphabetical order."""
    method = wildcards["method"]
    parts = of_tasks(suite, suite.merged(method), lambda task: task.answered_as())
    return {
        "entry": suite.methods[method].plain(),
        "groups": dict(suite.protocol(method).groups),
        **parts,
        "tasks": dict(sorted(parts["tasks"].items())),
        "rows": None if "rows" in suite.methods[method].options else suite.says.statistics.rows,
        "max_length": suite.says.inference.max_length,
        "threads": threads,
    }


def task_vectors(suite: Suite, wildcards: Wildcards, threads: int) -> Settings:
    return {"threads": threads}


def merge(suite: Suite, wildcards: Wildcards, threads: int) -> Settings:
    """Without threads, which change no byte of a merged model."""
    method = wildcards["method"]
    return {
        "entry": suite.methods[method].plain(),
        "groups": dict(suite.protocol(method).groups),
        "heads": {name: suite.tasks[name].whole.head for name in suite.evaluated(method)},
        **left_out(suite, method),
        **weight_files.settings(suite),
    }


def left_out(suite: Suite, method: str) -> Settings:
    """The tasks that a method answers without having merged them; no key where there are none."""
    found = suite.methods[method].left_out
    return {"left_out": list(found)} if found else {}


def linear_coefficients(suite: Suite, shared: str) -> dict[str, float] | None:
    """Each task's coefficient where all experts are LoRA adapters and the shared expert is a linear sum of them. Of
    coefficients that are chosen, those of the first candidate."""
    merged = suite.merged(shared)
    if not all(suite.tasks[name].expert.is_adapter for name in merged):
        return None
    return coefficients(suite.method(shared), first_of(suite.methods[shared].options), merged)


def compress(suite: Suite, wildcards: Wildcards, threads: int) -> Settings:
    shared = wildcards["shared"]
    return {
        "sizes": suite.compression(shared),
        "groups": dict(suite.protocol(shared).groups),
        "coefficients": None if suite.methods[shared].choices else linear_coefficients(suite, shared),
        "threads": threads,
    }


def merge_factors(suite: Suite, wildcards: Wildcards, threads: int) -> Settings:
    """As for a merge of the same method."""
    shared = wildcards["shared"]
    return {"entry": suite.methods[shared].plain(), "groups": dict(suite.protocol(shared).groups)}


def compress_factors(suite: Suite, wildcards: Wildcards, threads: int) -> Settings:
    return {"sizes": suite.compression(wildcards["shared"], "factor"), "threads": threads}


# -- routers and models


def route_features(suite: Suite, wildcards: Wildcards, threads: int) -> Settings:
    """Each task's part in alphabetical order, so that the order of tasks changes nothing."""
    limits, inference = suite.says.limits, suite.says.inference
    parts = of_tasks(suite, suite.featured(wildcards["shared"]), lambda task: task.read_as())
    return {
        **parts,
        "tasks": dict(sorted(parts["tasks"].items())),
        **_texts(suite, wildcards["shared"]),
        "limits": {"router": limits.router, "validation": limits.validation},
        "inference": {"max_length": inference.max_length, "batch_size": inference.batch_size},
        "features": features_named(wildcards["features"]),
        "dtype": suite.says.base.dtype,
        "threads": threads,
    }


def _texts(suite: Suite, shared: str) -> Settings:
    """The tasks that have other texts to train routers on, in the order of the job's inputs; no key for none."""
    found = [task for task in suite.featured(shared) if suite.tasks[task].router_texts]
    return {"texts": found} if found else {}


def route(suite: Suite, wildcards: Wildcards, threads: int) -> Settings:
    """The seed only for a kind of router that draws random numbers."""
    router = suite.router_settings(wildcards["router"])
    drawn = router["kind"] in SEEDED and "hub" not in router
    return {
        "tasks": suite.routed(wildcards["router"]),
        "router": router,
        "seed": suite.says.seed if drawn else 0,
        "threads": threads,
    }


def assemble(suite: Suite, wildcards: Wildcards, threads: int) -> Settings:
    """If a method's router equals the suite's, no router of its own is in its entry."""
    method = wildcards["method"]
    router = suite.weighing(method)
    has_own = method in suite.with_router and suite.has_own_router(method)
    return {
        "tasks": suite.merged(method),
        **left_out(suite, method),
        "entry": {**suite.methods[method].plain(), "router": router if has_own else None},
        "head": suite.head(method),
        "router": router,
        "threads": threads,
    }


def predict(suite: Suite, wildcards: Wildcards, threads: int) -> Settings:
    model = wildcards["model"]
    return {
        "merged": model in suite.methods,
        "body": model.removeprefix("expert-") if model.startswith("expert-") else None,
        "head": suite.head(model) if model in suite.methods else "oracle",
        **of_tasks(suite, suite.evaluated(model), lambda task: task.answered_as()),
        "limit": suite.says.limits.test,
        **({"sample": suite.says.limits.sample} if suite.says.limits.sample else {}),
        "inference": suite.says.inference.plain(),
        "dtype": suite.says.base.dtype,
        "threads": threads,
    }
