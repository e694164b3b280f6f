"""Settings of what is fetched and made: base, experts, rows, a router of elsewhere."""

from __future__ import annotations

from twin_merging.fetching.declared import Source
from twin_merging.plan import weight_files
from twin_merging.plan.settings_parts import Settings, Wildcards, of_task
from twin_merging.plan.targets import has_own_examples
from twin_merging.plan.united import looked_at
from twin_merging.suite.locks import what_is_fetched
from twin_merging.suite.models import Task
from twin_merging.suite.suite import Suite
from twin_merging.tasks.rows import SHOTS


def _model(source: Source, threads: int) -> Settings:
    return {"source": source.origin(), "package_version": source.package_version, "threads": threads}


def fetch_base(suite: Suite, wildcards: Wildcards, threads: int) -> Settings:
    return {
        **_model(suite.says.base, threads),
        "family": suite.family,
        **weight_files.settings(suite),
        **_tokens(suite),
    }


def _tokens(suite: Suite) -> Settings:
    """Where the base gets tokens of its experts: by which rule, and which experts."""
    if not (experts := looked_at(suite)):
        return {}
    known = {name: {"source": one.origin(), "package_version": one.package_version} for name, one in experts.items()}
    return {"vocabulary": {"rule": suite.says.vocabulary, "experts": known}}


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
        **_shards(suite, task),
        **({} if suite.says.vocabulary == "error" else {"aligned": True}),
    }


def _shards(suite: Suite, task: Task) -> Settings:
    """How an expert is written that is a whole model."""
    return {} if task.expert.is_adapter else weight_files.settings(suite)


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
    return {"data": data, **of_task(suite, wildcards, lambda task: task.rows()), "threads": threads}


def fetch_router(suite: Suite, wildcards: Wildcards, threads: int) -> Settings:
    hub = suite.router_settings(wildcards["router"])["hub"]
    return {"hub": what_is_fetched(hub), "threads": threads}


def generate_base(suite: Suite, wildcards: Wildcards, threads: int) -> Settings:
    origin, seed = suite.says.base.origin(), suite.says.seed
    return {**origin, "family": suite.family, "seed": seed, "threads": threads}


def generate_data(suite: Suite, wildcards: Wildcards, threads: int) -> Settings:
    task = suite.tasks[wildcards["task"]]
    generate = task.data.plain()["generate"]
    rows = of_task(suite, wildcards, lambda task: task.rows())
    return {"generate": generate, **rows, "seed": suite.says.seed, "threads": threads}


def finetune(suite: Suite, wildcards: Wildcards, threads: int) -> Settings:
    task, limits, dtype = suite.tasks[wildcards["task"]], suite.says.limits, suite.says.base.dtype
    return {
        **of_task(suite, wildcards, lambda task: task.trained_on()),
        **task.expert.plain(),
        "limits": {"train": limits.train, "validation": limits.validation},
        "seed": suite.says.seed,
        **({} if dtype == "float32" else {"dtype": dtype}),
        "threads": threads,
        **_shards(suite, task),
    }
