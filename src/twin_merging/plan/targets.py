"""What can be asked of a suite: its tables and cards, and every job that makes its tables."""

from __future__ import annotations

from collections.abc import Iterator

from twin_merging.plan.figures import files, names
from twin_merging.routing.layers import features_name, of_one_body
from twin_merging.suite.models import Task
from twin_merging.suite.shared_experts import FIRST_PASS
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


def job_name(job: Job) -> str:
    """A job by its rule and wildcards, as merge/ties."""
    rule, wildcards = job
    return "/".join((rule, *wildcards.values()))


def tables(suite: Suite) -> list[str]:
    """A suite's tables, first the one for reading."""
    names = ("", "-absolute", "-experts", "-router", "-routing", "-unseen")
    place = f"results/tables/{suite.name}"
    found = [f"{place}.md", *(f"{place}{name}.csv" for name in names), *(f"{place}{name}.tex" for name in names[:3])]
    return [*found, f"{place}-storage.csv", *lm_eval_tables(suite)]


def cost_tables(suite: Suite) -> list[str]:
    """What models take to store, to make and to ask. Times differ with every run, so nothing rests on these tables."""
    return [f"results/tables/{suite.name}-cost.{end}" for end in ("md", "csv")]


def lm_eval_tables(suite: Suite) -> list[str]:
    """The tables of a suite that asks something of lm-eval."""
    ends = ("md", "csv") if suite.lm_eval else ()
    return [f"results/tables/{suite.name}-lm-eval.{end}" for end in ends]


def cards(suite: Suite) -> list[str]:
    """Cards of a suite's dynamic models."""
    return [f"results/{suite.name}/models/{method}/README.md" for method in suite.dynamic]


def page(suite: Suite) -> str:
    """The page that shows a suite's results."""
    return f"results/{suite.name}/index.html"


def figures(suite: Suite) -> list[str]:
    """A suite's figures, one SVG each; the same job writes a PNG beside it."""
    return [file for name in names(suite) for file in files(suite, name)[:1]]


def all_of(suite: Suite) -> list[str]:
    """What is made where nothing is asked for."""
    tables = [f"results/tables/{suite.name}.csv", *cost_tables(suite), *lm_eval_tables(suite)]
    return [*tables, *cards(suite), *figures(suite), page(suite)]


def jobs(suite: Suite) -> list[Job]:
    """Every job that the suite's tables need, each once."""
    return [*scoring_jobs(suite), *_jobs_of_tables(suite)]


def scoring_jobs(suite: Suite) -> list[Job]:
    """Every job that the suite's scores rest on, each once, and the one that makes them."""
    return list({(rule, *wildcards.items()): (rule, wildcards) for rule, wildcards in _scoring_jobs(suite)}.values())


def _jobs_of_tables(suite: Suite) -> Iterator[Job]:
    yield "intervals", {}
    yield "snapshot", {}
    yield "tabulate", {}
    yield "storage", {}
    if suite.lm_eval is not None:
        for model in suite.lm_eval_models:
            yield "lm_eval", {"model": model}
        yield "lm_eval_table", {}


def _scoring_jobs(suite: Suite) -> Iterator[Job]:
    decoder = "_decoder" * is_of_decoders(suite)
    yield f"{'generate' if suite.says.base.is_made_here else 'fetch'}_base{decoder}", {}
    for name, task in suite.tasks.items():
        of_task = {"task": name}
        yield data_rule(task), of_task
        yield EXPERT_RULES[task.expert.is_made_here, task.expert.is_adapter], of_task
        yield "task_vectors", of_task
    for name in suite.methods:
        yield from of_method(suite, name)
    for model in suite.models:
        yield "predict", {"model": model}
    yield "score", {}


def of_method(suite: Suite, method: str) -> Iterator[Job]:
    """The jobs that make a method's model of task vectors, or of its shared expert and these."""
    entry = suite.methods[method]
    if entry.method.joint:
        yield "joint_statistics", {"method": method}
    elif entry.method.statistics:
        for owner in entry.merged:
            yield "training_statistics", {"kind": entry.method.statistics, "task": owner}
    for owner in entry.merged if entry.choices else ():
        yield "answer_validation", {"task": owner}
    if entry.kind == "dynamic":
        yield from _dynamic(suite, method)
    else:
        yield from _choice(suite, method)
        rules = {"static": f"merge{'_decoder' * is_of_decoders(suite)}", "masked": "merge_masked"}
        yield rules[entry.kind], {"method": method}


def making(suite: Suite, method: str) -> list[Job]:
    """The jobs between the experts and a method's model, those of its shared expert and of its first pass included."""
    vectors = [("task_vectors", {"task": task}) for task in suite.merged(method)]
    below = [suite.shared(method)] if method in suite.dynamic else []
    below += [first] if (first := suite.methods[method].options.get(FIRST_PASS)) else []
    return [*vectors, *(job for name in below for job in of_method(suite, name)), *of_method(suite, method)]


def _dynamic(suite: Suite, method: str) -> Iterator[Job]:
    shared = suite.shared(method)
    in_factors = suite.lora_space(method) == "factor"
    if in_factors:
        yield "merge_factors", {"shared": shared}
    for task in suite.merged(shared):
        yield f"compress{'_factors' * in_factors}", {"shared": shared, "task": task}
    if method in suite.with_router:
        yield from _router(suite, suite.router_name(method))
    yield from _choice(suite, method)
    yield assembling_rule(suite, method), {"method": method}


def _choice(suite: Suite, method: str) -> Iterator[Job]:
    if suite.methods[method].is_tried:
        yield "choose", {"method": method}


def _router(suite: Suite, router: str) -> Iterator[Job]:
    settings = suite.router_settings(router)
    name = features_name(of_one_body(settings["features"]))
    yield "route_features", {"shared": router.split("/")[0], "features": name}
    if "hub" in settings:
        yield "fetch_router", {"router": router}
    yield "route", {"router": router}


def assembling_rule(suite: Suite, method: str) -> str:
    """The rule that assembles a dynamic method's model."""
    if suite.lora_space(method) == "factor":
        return "assemble_factors"
    return "assemble_decoder" if is_of_decoders(suite) else "assemble"
