"""What each job's output depends on beside its inputs and the code: the `settings` parameter of every rule.

Settings are plain data in a fixed order, made of exactly those parts of a suite that the job reads, so that a change of
the suite makes stale what it changes and nothing else. `of_job` gives them for a rule and its wildcards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twin_merging.fetching.declared import Source
from twin_merging.merging.options import coefficients
from twin_merging.plan import lm_eval
from twin_merging.plan.targets import has_own_examples, tables
from twin_merging.routing.layers import features_named
from twin_merging.routing.options import SEEDED
from twin_merging.suite.locks import what_is_fetched
from twin_merging.suite.models import Task
from twin_merging.suite.suite import Suite
from twin_merging.tasks.rows import SHOTS

Settings = dict[str, Any]
Wildcards = Mapping[str, str]


def of_job(suite: Suite, rule: str, wildcards: Wildcards, threads: Mapping[str, int] | None = None) -> Settings:
    """The settings of a job. `threads`: how many a stage's jobs have, 1 where it names none."""
    stage, function = RULES[rule]
    return function(suite, wildcards, (threads or {}).get(stage, 1))


def _of_tasks(suite: Suite, part: Callable[[Any], Mapping[str, Any]]) -> Settings:
    """The suite's family, and a part of every task."""
    return {"family": suite.family, "tasks": {name: part(task) for name, task in suite.tasks.items()}}


def _of_task(suite: Suite, wildcards: Wildcards, part: Callable[[Any], Mapping[str, Any]]) -> Settings:
    """The suite's family, and a part of the job's own task."""
    return {"family": suite.family, "task": part(suite.tasks[wildcards["task"]])}


# -- what is fetched and made


def _model(source: Source, threads: int) -> Settings:
    return {"source": source.origin(), "package_version": source.package_version, "threads": threads}


def fetch_base(suite: Suite, wildcards: Wildcards, threads: int) -> Settings:
    return {**_model(suite.says.base, threads), "family": suite.family}


def fetch_expert(suite: Suite, wildcards: Wildcards, threads: int) -> Settings:
    task = suite.tasks[wildcards["task"]]
    hub = task.data.plain()["hub"] if may_name_labels(task) == "hub" else None
    return {
        **_model(task.expert, threads),
        "family": suite.family,
        "head": task.whole.head,
        "allowed": list(suite.says.allow_differences),
        "label_names": task.rows().get("label_names"),
        "labels_of": hub and what_is_fetched(hub),
    }


def may_name_labels(task: Task) -> str | None:
    """The kind of a data source, `hub` or `path`, whose files may name the labels in whose order the task's expert is
    written. None where the suite names them, where there are none, and for data that is made here."""
    if task.whole.head.get("labels", 1) == 1 or "label_names" in task.rows() or task.data.is_made_here:
        return None
    return next(kind for kind in ("hub", "path") if kind in task.data.plain())


def fetch_data(suite: Suite, wildcards: Wildcards, threads: int) -> Settings:
    """A split of in-context examples only where some are shown."""
    task = suite.tasks[wildcards["task"]]
    data = task.data.plain()
    if not has_own_examples(task):
        data["splits"].pop(SHOTS, None)
    return {"data": data, **_of_task(suite, wildcards, lambda task: task.rows()), "threads": threads}


def fetch_router(suite: Suite, wildcards: Wildcards, threads: int) -> Settings:
    hub = suite.router_settings(wildcards["router"])["hub"]
    return {"hub": what_is_fetched(hub), "threads": threads}


def generate_base(suite: Suite, wildcards: Wildcards, threads: int) -> Settings:
    origin, seed = suite.says.base.origin(), suite.says.seed
    return {**origin, "family": suite.family, "seed": seed, "threads": threads}


def generate_data(suite: Suite, wildcards: Wildcards, threads: int) -> Settings:
    task = suite.tasks[wildcards["task"]]
    generate = task.data.plain()["generate"]
    rows = _of_task(suite, wildcards, lambda task: task.rows())
    return {"generate": generate, **rows, "seed": suite.says.seed, "threads": threads}


def finetune(suite: Suite, wildcards: Wildcards, threads: int) -> Settings:
    task, limits, dtype = suite.tasks[wildcards["task"]], suite.says.limits, suite.says.base.dtype
    return {
        **_of_task(suite, wildcards, lambda task: task.trained_on()),
        **task.expert.plain(),
        "limits": {"train": limits.train, "validation": limits.validation},
        "seed": suite.says.seed,
        **({} if dtype == "float32" else {"dtype": dtype}),
        "threads": threads,
    }


# -- what is merged


def training_statistics(suite: Suite, wildcards: Wildcards, threads: int) -> Settings:
    return {
        "kind": wildcards["kind"],
        **_of_task(suite, wildcards, lambda task: task.answered_as()),
        "rows": suite.says.statistics.rows,
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
        "heads": {name: task.whole.head for name, task in suite.tasks.items()},
    }


def linear_coefficients(suite: Suite, shared: str) -> dict[str, float] | None:
    """Each task's coefficient where all experts are LoRA adapters and the shared expert is a linear sum of them."""
    if not all(task.expert.is_adapter for task in suite.tasks.values()):
        return None
    return coefficients(suite.method(shared), suite.methods[shared].options, list(suite.tasks))


def compress(suite: Suite, wildcards: Wildcards, threads: int) -> Settings:
    shared = wildcards["shared"]
    return {
        "sizes": suite.compression(shared),
        "groups": dict(suite.protocol(shared).groups),
        "coefficients": linear_coefficients(suite, shared),
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
    parts = _of_tasks(suite, lambda task: task.read_as())
    return {
        **parts,
        "tasks": dict(sorted(parts["tasks"].items())),
        "limits": {"router": limits.router, "validation": limits.validation},
        "inference": {"max_length": inference.max_length, "batch_size": inference.batch_size},
        "features": features_named(wildcards["features"]),
        "dtype": suite.says.base.dtype,
        "threads": threads,
    }


def route(suite: Suite, wildcards: Wildcards, threads: int) -> Settings:
    """The seed only for a kind of router that draws random numbers."""
    router = suite.router_settings(wildcards["router"])
    drawn = router["kind"] in SEEDED and "hub" not in router
    return {
        "tasks": list(suite.tasks),
        "router": router,
        "seed": suite.says.seed if drawn else 0,
        "threads": threads,
    }


def assemble(suite: Suite, wildcards: Wildcards, threads: int) -> Settings:
    """If a method's router equals the suite's, no router of its own is in its entry."""
    method = wildcards["method"]
    name = suite.router_name(method)
    router = suite.router_settings(name)
    own = None if name == suite.shared(method) else router
    return {
        "tasks": list(suite.tasks),
        "entry": {**suite.methods[method].plain(), "router": own},
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
        **_of_tasks(suite, lambda task: task.answered_as()),
        "limit": suite.says.limits.test,
        **({"sample": suite.says.limits.sample} if suite.says.limits.sample else {}),
        "inference": suite.says.inference.plain(),
        "dtype": suite.says.base.dtype,
        "threads": threads,
    }


# -- scores, tables, and what goes with them


def protocol_name(suite: Suite, model: str) -> str:
    """The protocol a model was made under; a model that is not merged has none."""
    return suite.methods[model].protocol if model in suite.methods else "none"


def true_task(suite: Suite, model: str) -> str:
    """What a model is told of the task that a test row comes from: its private parameters, or nothing."""
    has_heads = any(task.whole.head for task in suite.tasks.values())
    if model not in suite.methods:
        return "head" if has_heads else "nothing"
    masks = ["masks"] if model in suite.masked else []
    groups = [group for group in suite.private_groups(model) if has_heads or group != "head"]
    return "nothing" if suite.head(model) == "routed" else "+".join([*groups, *masks]) or "nothing"


def _knowledge(suite: Suite, model: str) -> dict[str, str]:
    return {"protocol": protocol_name(suite, model), "true_task": true_task(suite, model)}


def score(suite: Suite, wildcards: Wildcards, threads: int) -> Settings:
    return {
        "metrics": {name: task.metric for name, task in suite.tasks.items()},
        "protocols": {model: protocol_name(suite, model) for model in suite.models},
        "threads": threads,
    }


def card(suite: Suite, wildcards: Wildcards, threads: int) -> Settings:
    experts = {name: task.expert.plain() for name, task in suite.tasks.items()}
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
        "dynamic": suite.dynamic,
        "knowledge": {**merged, "experts": {"protocol": "none", "true_task": "everything"}},
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
    return {"title": suite.says.title, "tasks": list(suite.tasks), "threads": threads}


# Each rule's stage, as `threads` of the configuration names it, and the function of its settings.
RULES: dict[str, tuple[str, Callable[[Suite, Wildcards, int], Settings]]] = {
    "fetch_base": ("fetch", fetch_base),
    "fetch_base_decoder": ("fetch", fetch_base),
    "fetch_expert": ("fetch", fetch_expert),
    "fetch_adapter": ("fetch", fetch_expert),
    "fetch_data": ("fetch", fetch_data),
    "fetch_data_with_shots": ("fetch", fetch_data),
    "fetch_router": ("fetch", fetch_router),
    "generate_base": ("generate", generate_base),
    "generate_base_decoder": ("generate", generate_base),
    "generate_data": ("generate", generate_data),
    "finetune": ("finetune", finetune),
    "finetune_adapter": ("finetune", finetune),
    "training_statistics": ("training_statistics", training_statistics),
    "task_vectors": ("task_vectors", task_vectors),
    "merge": ("merge", merge),
    "merge_masked": ("merge", merge),
    "merge_decoder": ("merge", merge),
    "merge_factors": ("merge", merge_factors),
    "compress": ("compress", compress),
    "compress_factors": ("compress", compress_factors),
    "route_features": ("route", route_features),
    "route": ("route", route),
    "assemble": ("assemble", assemble),
    "assemble_decoder": ("assemble", assemble),
    "assemble_factors": ("assemble", assemble),
    "predict": ("predict", predict),
    "score": ("score", score),
    "card": ("card", card),
    "tabulate": ("tabulate", tabulate),
    "lm_eval": ("predict", lm_eval.settings),
    "lm_eval_table": ("tabulate", lm_eval.table_settings),
    "provenance": ("provenance", provenance),
    "audit": ("predict", audit),
    "compare": ("compare", compare),
}
