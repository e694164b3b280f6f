"""Inputs of jobs that are more than a path with the job's own wildcards in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from twin_merging.errors import UserError
from twin_merging.fetching.declared import Source
from twin_merging.plan.lm_eval import asked_of, check_installed, task_files
from twin_merging.plan.settings_models import linear_coefficients
from twin_merging.plan.settings_sources import may_name_labels
from twin_merging.plan.targets import figures, has_own_examples
from twin_merging.routing.layers import features_name
from twin_merging.suite.locks import lock_file
from twin_merging.suite.suite import Suite
from twin_merging.tasks.families import whole_model
from twin_merging.tasks.rows import SHOTS

Wildcards = Mapping[str, str]

CONFIG = ["config.json"]
WEIGHTS = ["model.safetensors"]
TOKENIZER = ["tokenizer.json", "tokenizer_config.json"]
MODEL = [*CONFIG, *WEIGHTS, *TOKENIZER]
ADAPTER = ["adapter_config.json", "adapter_model.safetensors", "source.json"]  # the last: which matrices were one
# Folders that a model's directory holds.
FOLDERS = ("private", "exclusive", "router", "masks", "shared")


def inside(folder: str, *names: str) -> list[str]:
    """Paths of files in a folder."""
    return [f"{folder}/{name}" for name in names]


def is_ancient(suite: Suite, path: str) -> bool:
    """Whether an input makes no job stale.

    A folder of a model's directory, which Snakemake compares by its time alone; and the weights of a shared expert and
    of the models that are assembled on it, which are one file and have one time. They are followed through merge.json,
    which has the sha256 of every such file.
    """
    *folders, name = path.split("/")
    if name in FOLDERS:
        return True
    if name not in WEIGHTS or folders[2:3] != ["models"]:
        return False
    return any(folders[3] in (method, suite.shared(method)) for method in suite.dynamic)


# -- sources and experts


def base_source(suite: Suite, wildcards: Wildcards) -> list[str]:
    """Local files that the base is fetched from."""
    return suite.says.base.files()


def expert_source(suite: Suite, wildcards: Wildcards) -> list[str]:
    return suite.tasks[wildcards["task"]].expert.files()


def data_source(suite: Suite, wildcards: Wildcards) -> list[str]:
    return suite.tasks[wildcards["task"]].data.files()


def suite_file(suite: Suite, wildcards: Wildcards) -> str:
    return str(suite.file)


def path_label_names(suite: Suite, wildcards: Wildcards) -> list[str]:
    """What says how the labels of an expert's task are called, where the task's local files may say it."""
    task = suite.tasks[wildcards["task"]]
    says = may_name_labels(task) == "path" and any(file.endswith(".parquet") for file in task.data.files())
    return _label_names(suite, wildcards) if says else []


def hub_label_names(suite: Suite, wildcards: Wildcards) -> list[str]:
    """The same where a data set of the Hub may say it. Its time does not count: the settings hold the data set's
    revision, and other splits or other code of the fetch change no names."""
    return _label_names(suite, wildcards) if may_name_labels(suite.tasks[wildcards["task"]]) == "hub" else []


def _label_names(suite: Suite, wildcards: Wildcards) -> list[str]:
    return [f"results/{suite.name}/data/{wildcards['task']}/label_names.json"]


def lock(suite: Suite, wildcards: Wildcards) -> list[str]:
    """The suite's lock, where it has one."""
    file = lock_file(suite.file)
    return [str(file)] if file.is_file() else []


def _locks(suite: Suite, source: Source) -> list[str]:
    """The folder that holds the suite's lock, where it has one: what is fetched from a Hub is held against it.

    The folder is named, and not the lock, because it is always there: with the lock itself among its inputs, a fetch
    would run again when a lock is added. A lock changes no output, only what is accepted.
    """
    return [str(suite.file.parent)] if "hub" in source.plain() else []


def base_locks(suite: Suite, wildcards: Wildcards) -> list[str]:
    return _locks(suite, suite.says.base)


def expert_locks(suite: Suite, wildcards: Wildcards) -> list[str]:
    return _locks(suite, suite.tasks[wildcards["task"]].expert)


def data_locks(suite: Suite, wildcards: Wildcards) -> list[str]:
    return _locks(suite, suite.tasks[wildcards["task"]].data)


def router_locks(suite: Suite, wildcards: Wildcards) -> list[str]:
    return [str(suite.file.parent)]


def base_files(suite: Suite, *names: str) -> list[str]:
    return inside(f"results/{suite.name}/base", *names)


def base_model(suite: Suite, wildcards: Wildcards) -> list[str]:
    """The base as a model that can be loaded."""
    return base_files(suite, *MODEL, *_beside(suite))


def base_weights(suite: Suite, wildcards: Wildcards) -> list[str]:
    return base_files(suite, *WEIGHTS)


def _beside(suite: Suite) -> tuple[str, ...]:
    """What a model of the suite's family has beside the files of every model."""
    return whole_model(suite.family).beside


def expert_files(suite: Suite, wildcards: Wildcards) -> list[str]:
    """What an expert consists of: a checkpoint and its configuration, or an adapter and its."""
    task = wildcards["task"]
    names = ADAPTER if suite.tasks[task].expert.is_adapter else [*CONFIG, *WEIGHTS]
    return inside(f"results/{suite.name}/experts/{task}", *names)


def _experts_files(suite: Suite, tasks: Iterable[str]) -> list[str]:
    return [file for task in tasks for file in expert_files(suite, {"task": task})]


def merged_expert_files(suite: Suite, wildcards: Wildcards) -> list[str]:
    """The experts that a method keeps something of: those that it merges, and those whose heads it has."""
    return _experts_files(suite, suite.evaluated(wildcards["method"]))


def _rows(suite: Suite, tasks: Iterable[str], *splits: str) -> list[str]:
    """Splits of tasks, each with what its in-context examples are drawn from."""
    found = []
    for name in tasks:
        task = suite.tasks[name]
        examples = (SHOTS if has_own_examples(task) else "train",) if task.shots else ()
        found += [f"results/{suite.name}/data/{name}/{split}.parquet" for split in dict.fromkeys((*splits, *examples))]
    return found


def routed_data(suite: Suite, wildcards: Wildcards) -> list[str]:
    """What the routers on a shared expert are trained on."""
    return _rows(suite, suite.merged(wildcards["shared"]), "train", "validation")


def finetuning_data(suite: Suite, wildcards: Wildcards) -> list[str]:
    """What one task's expert is trained on."""
    return [*_rows(suite, [wildcards["task"]], "train", "validation"), *_label_names(suite, wildcards)]


def test_data(suite: Suite, wildcards: Wildcards) -> list[str]:
    return _rows(suite, suite.evaluated(wildcards["model"]), "test")


def shown_data(suite: Suite, wildcards: Wildcards) -> list[str]:
    """The test rows of each task, as a reader is shown them: without in-context examples."""
    return [f"results/{suite.name}/data/{task}/test.parquet" for task in suite.tasks]


def shown_figures(suite: Suite, wildcards: Wildcards) -> list[str]:
    return figures(suite)


def shown_label_names(suite: Suite, wildcards: Wildcards) -> list[str]:
    return [file for task in suite.tasks for file in _label_names(suite, {"task": task})]


def plane_data(suite: Suite, wildcards: Wildcards) -> list[str]:
    """What the plane of two tasks' weights is evaluated on."""
    return _rows(suite, suite.plane.tasks if suite.plane else (), "validation")


# -- merging


def task_vectors(suite: Suite, wildcards: Wildcards) -> list[str]:
    """What a method merges: the one that is made, or whose factors are."""
    merged = suite.merged(wildcards.get("method") or wildcards["shared"])
    return [f"results/{suite.name}/task_vectors/{task}.safetensors" for task in merged]


def training_statistics(suite: Suite, wildcards: Wildcards) -> list[str]:
    """What a method needs of the experts' training rows: a file a task, for methods that need any."""
    method = wildcards["method"]
    kind = suite.method(method).statistics
    return [f"results/{suite.name}/statistics/{kind}/{task}.safetensors" for task in suite.merged(method) if kind]


def compressed_from(suite: Suite, wildcards: Wildcards) -> list[str]:
    """Task vectors that a difference is made of: the task's own, or all for a linear sum of LoRA adapters."""
    linear = linear_coefficients(suite, wildcards["shared"])
    return [f"results/{suite.name}/task_vectors/{task}.safetensors" for task in linear or [wildcards["task"]]]


def exclusives(suite: Suite, shared: str) -> list[str]:
    """Exclusive files of all merged tasks against a shared expert."""
    return [f"results/{suite.name}/exclusive/{shared}/{task}.safetensors" for task in suite.merged(shared)]


def own_task_vector(suite: Suite, wildcards: Wildcards) -> list[str]:
    return [f"results/{suite.name}/task_vectors/{wildcards['task']}.safetensors"]


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


def shared_body(suite: Suite, wildcards: Wildcards) -> list[str]:
    """The weights of a shared expert, and what follows them."""
    return inside(f"results/{suite.name}/models/{wildcards['shared']}", *WEIGHTS, "merge.json")


def shared_choice(suite: Suite, wildcards: Wildcards) -> list[str]:
    """What was chosen for a shared expert; nothing where all of its options are numbers."""
    return own_choice(suite, {"method": wildcards["shared"]})


def chosen_coefficients(suite: Suite, wildcards: Wildcards) -> list[str]:
    """The same, where exclusive vectors are computed from the coefficients of a linear sum of LoRA adapters."""
    return shared_choice(suite, wildcards) if linear_coefficients(suite, wildcards["shared"]) else []


# -- choices on validation rows


def validation_data(suite: Suite, wildcards: Wildcards) -> list[str]:
    """The validation rows of one task, or of those that a method merges. Unseen tasks choose nothing."""
    tasks = [wildcards["task"]] if "task" in wildcards else suite.merged(wildcards["method"])
    return _rows(suite, tasks, "validation")


def own_choice(suite: Suite, wildcards: Wildcards) -> list[str]:
    """What was chosen for a method; nothing where all of its options are numbers."""
    method = wildcards["method"]
    return [f"results/{suite.name}/choices/{method}.json"] if suite.methods[method].choices else []


def choices(suite: Suite, wildcards: Wildcards) -> list[str]:
    """What was chosen for all methods."""
    return [file for method in suite.choosing for file in own_choice(suite, {"method": method})]


def validation_scores(suite: Suite, wildcards: Wildcards) -> list[str]:
    """Each merged expert's score on its own task's validation rows."""
    return [f"results/{suite.name}/choices/experts/{task}.json" for task in suite.merged(wildcards["method"])]


def _merged_experts(suite: Suite, wildcards: Wildcards) -> list[str]:
    return _experts_files(suite, suite.merged(wildcards["method"]))


def tried_from(suite: Suite, wildcards: Wildcards, kind: str) -> list[str]:
    """What a method's candidates are made of, of one kind: a merge's inputs, or a dynamic model's."""
    functions = _TRIED[suite.methods[wildcards["method"]].kind == "dynamic"]
    return functions[kind](suite, wildcards) if kind in functions else []


# -- routers


def read_by_router(suite: Suite, wildcards: Wildcards) -> list[str]:
    """The shared expert as a model that can be loaded, but for what only an answer needs."""
    return inside(f"results/{suite.name}/models/{wildcards['shared']}", *MODEL, "merge.json")


def router_features(suite: Suite, wildcards: Wildcards) -> str:
    """The hidden states that a router reads, of the shared expert that it belongs to."""
    router = wildcards["router"]
    name = features_name(suite.router_settings(router)["features"])
    return f"results/{suite.name}/router/{router.split('/')[0]}/features/{name}.safetensors"


def projected_exclusives(suite: Suite, wildcards: Wildcards) -> list[str]:
    """Exclusive files of all its tasks for a router of kind projection, which reads them; none for the other kinds."""
    router = wildcards["router"]
    projects = suite.router_settings(router)["kind"] == "projection"
    return exclusives(suite, router.split("/")[0]) if projects else []


def fetched_router(suite: Suite, wildcards: Wildcards) -> list[str]:
    """The state of a router that was trained elsewhere; nothing for one that is made here."""
    router = wildcards["router"]
    fetched = "hub" in suite.router_settings(router)
    return [f"results/{suite.name}/router/{router}/fetched.safetensors"] if fetched else []


def router_of(suite: Suite, wildcards: Wildcards) -> list[str]:
    """The state of a dynamic method's router; nothing where no router weighs."""
    method = wildcards["method"]
    routed = [suite.router_name(method)] if method in suite.with_router else []
    return [f"results/{suite.name}/router/{router}/router.safetensors" for router in routed]


def _metrics(suite: Suite, method: str) -> str:
    return f"results/{suite.name}/router/{suite.router_name(method)}/metrics.json"


def own_router_metrics(suite: Suite, wildcards: Wildcards) -> list[str]:
    """Metrics of a dynamic method's router; nothing for a method without one."""
    method = wildcards["method"]
    return [_metrics(suite, method)] if method in suite.with_router else []


def router_metrics(suite: Suite, wildcards: Wildcards) -> list[str]:
    return [_metrics(suite, method) for method in suite.with_router]


# -- models and their predictions


def shared_model(suite: Suite, wildcards: Wildcards) -> list[str]:
    return _directory(suite, suite.shared(wildcards["method"]))


def model_files(suite: Suite, wildcards: Wildcards) -> list[str]:
    """What a model consists of: a merged model's directory, or base and experts for one that is not merged."""
    model = wildcards.get("model") or wildcards["method"]
    if model not in suite.methods:
        return [*base_model(suite, wildcards), *all_expert_files(suite, wildcards)]
    return _directory(suite, model)


def _directory(suite: Suite, method: str) -> list[str]:
    unified = ["unified.safetensors"] if method in suite.masked else []
    parts = {"dynamic": ["exclusive", "router"], "masked": ["masks"]}.get(suite.methods[method].kind, [])
    if method in suite.dynamic and suite.lora_space(method) == "factor":
        parts = [*parts, "shared"]
    folder = f"results/{suite.name}/models/{method}"
    return inside(folder, *MODEL, *_beside(suite), "merge.json", *unified, "private", *parts)


def all_expert_files(suite: Suite, wildcards: Wildcards) -> list[str]:
    return _experts_files(suite, suite.tasks)


def merged_models(suite: Suite, wildcards: Wildcards) -> list[str]:
    """What all merged models consist of."""
    return [file for method in suite.methods for file in _directory(suite, method)]


def predictions(suite: Suite, wildcards: Wildcards) -> list[str]:
    return [f"results/{suite.name}/predictions/{model}.parquet" for model in suite.models]


def routed_predictions(suite: Suite, wildcards: Wildcards) -> list[str]:
    return [f"results/{suite.name}/predictions/{model}.parquet" for model in suite.with_router]


def lm_eval_installed(suite: Suite, wildcards: Wildcards) -> list[str]:
    """No file. Raises UserError where lm-eval is not installed."""
    check_installed(suite)
    return []


def lm_eval_files(suite: Suite, wildcards: Wildcards) -> list[str]:
    """The suite's own task files, with all that lies beside them."""
    return task_files(suite)


def lm_eval_results(suite: Suite, wildcards: Wildcards) -> list[str]:
    """What lm-eval found of each model. Raises UserError for a suite that asks nothing of it."""
    asked_of(suite)
    return [f"results/{suite.name}/lm_eval/{model}.json" for model in suite.lm_eval_models]


def published_scores(suite: Suite, wildcards: Wildcards) -> str:
    """The suite's file of published scores. Raises UserError when it names none, or one that is wrong."""
    from twin_merging.reporting.published import read_published

    file = suite.says.published
    if file is None:
        raise UserError(f"{suite.file}: key 'published' is missing; name a file of published scores to compare with")
    read_published(Path(file), list(suite.tasks))
    return file


# What candidates are made of, whether their method is dynamic, by the names of the inputs of rule choose.
_TRIED: dict[bool, dict[str, Callable[[Suite, Wildcards], list[str]]]] = {
    False: {
        "task_vectors": task_vectors,
        "statistics": training_statistics,
        "base": base_model,
        "experts": _merged_experts,
    },
    True: {
        "shared": shared_model,
        "exclusives": assembled_from,
        "router": router_of,
        "factors": merged_factors,
    },
}
