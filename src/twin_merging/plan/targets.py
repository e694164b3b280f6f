"""What can be asked of a suite: its tables and cards, and every job that makes its tables."""

from __future__ import annotations

from collections.abc import Iterator

from twin_merging.routing.layers import features_name
from twin_merging.suite.models import Task
from twin_merging.suite.suite import Suite
from twin_merging.tasks.families import whole_model
from twin_merging.tasks.rows import SHOTS

Job = tuple[str, dict[str, str]]  # a rule and its wildcards, but for `suite`
# The rule that makes an expert: whether it is made here, and whether it is an adapter.
EXPERT_RULES = {
    (False, False): "fetch_expert",
    (False, True): "fetch_adapter",
    (True, False): "finetune",
    (True, True): "finetune_adapter",
}
# The rule that makes a task's rows: whether they are made here, and whether in-context examples have their own split.
DATA_RULES = {
    (False, False): "fetch_data",
    (False, True): "fetch_data_with_shots",
    (True, False): "generate_data",
}


def has_own_examples(task: Task) -> bool:
    """Whether a task shows in-context examples that come from a split of their own."""
    return task.shots > 0 and SHOTS in task.data.plain()["splits"]


def data_rule(task: Task) -> str:
    return DATA_RULES[task.data.is_made_here, has_own_examples(task)]


def is_of_decoders(suite: Suite) -> bool:
    """Whether its models have files of their own beside those of every model, which rules of their own make."""
    return bool(whole_model(suite.family).beside)


def tables(suite: Suite) -> list[str]:
    """A suite's tables, first the one for reading."""
    names = ("", "-absolute", "-experts", "-router", "-routing")
    found = [f"results/tables/{suite.name}.md", *(f"results/tables/{suite.name}{name}.csv" for name in names)]
    return [*found, *lm_eval_tables(suite)]


def lm_eval_tables(suite: Suite) -> list[str]:
    """The tables of a suite that asks something of lm-eval."""
    ends = ("md", "csv") if suite.lm_eval else ()
    return [f"results/tables/{suite.name}-lm-eval.{end}" for end in ends]


def cards(suite: Suite) -> list[str]:
    """Cards of a suite's dynamic models."""
    return [f"results/{suite.name}/models/{method}/README.md" for method in suite.dynamic]


def all_of(suite: Suite) -> list[str]:
    """What is made where nothing is asked for."""
    return [f"results/tables/{suite.name}.csv", *cards(suite), *lm_eval_tables(suite)]


def jobs(suite: Suite) -> list[Job]:
    """Every job that the suite's tables need, each once."""
    found: list[Job] = []
    for job in _jobs(suite):
        if job not in found:
            found.append(job)
    return found


def _jobs(suite: Suite) -> Iterator[Job]:
    decoder = "_decoder" * is_of_decoders(suite)
    yield f"{'generate' if suite.says.base.is_made_here else 'fetch'}_base{decoder}", {}
    for name, task in suite.tasks.items():
        of_task = {"task": name}
        yield data_rule(task), of_task
        yield EXPERT_RULES[task.expert.is_made_here, task.expert.is_adapter], of_task
        yield "task_vectors", of_task
    for name, entry in suite.methods.items():
        if entry.method.statistics:
            for owner in suite.tasks:
                yield "training_statistics", {"kind": entry.method.statistics, "task": owner}
        for owner in suite.tasks if entry.choices else ():
            yield "answer_validation", {"task": owner}
        if entry.kind == "dynamic":
            yield from _dynamic(suite, name)
        else:
            if entry.choices:
                yield "choose", {"method": name}
            yield {"static": f"merge{decoder}", "masked": "merge_masked"}[entry.kind], {"method": name}
    for model in suite.models:
        yield "predict", {"model": model}
    yield "score", {}
    yield "tabulate", {}
    if suite.lm_eval is not None:
        for model in suite.lm_eval_models:
            yield "lm_eval", {"model": model}
        yield "lm_eval_table", {}


def _dynamic(suite: Suite, method: str) -> Iterator[Job]:
    shared, router = suite.shared(method), suite.router_name(method)
    settings = suite.router_settings(router)
    in_factors = suite.lora_space(method) == "factor"
    if in_factors:
        yield "merge_factors", {"shared": shared}
    for task in suite.tasks:
        yield f"compress{'_factors' * in_factors}", {"shared": shared, "task": task}
    yield "route_features", {"shared": shared, "features": features_name(settings["features"])}
    if "hub" in settings:
        yield "fetch_router", {"router": router}
    yield "route", {"router": router}
    if suite.methods[method].choices:
        yield "choose", {"method": method}
    yield assembling_rule(suite, method), {"method": method}


def assembling_rule(suite: Suite, method: str) -> str:
    """The rule that assembles a dynamic method's model."""
    if suite.lora_space(method) == "factor":
        return "assemble_factors"
    return "assemble_decoder" if is_of_decoders(suite) else "assemble"
