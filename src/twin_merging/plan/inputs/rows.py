"""Rows of the tasks: what experts and routers are trained on, what models answer, what a page shows."""

from __future__ import annotations

from collections.abc import Iterable

from twin_merging.plan.inputs.files import Wildcards, label_names
from twin_merging.plan.targets import has_own_examples
from twin_merging.suite.suite import Suite
from twin_merging.tasks.rows import SHOTS


def split_files(suite: Suite, tasks: Iterable[str], *splits: str) -> list[str]:
    """Splits of tasks, each with what its in-context examples are drawn from."""
    found = []
    for name in tasks:
        task = suite.tasks[name]
        examples = (SHOTS if has_own_examples(task) else "train",) if task.shots else ()
        found += [f"results/{suite.name}/data/{name}/{split}.parquet" for split in dict.fromkeys((*splits, *examples))]
    return found


def routed_data(suite: Suite, wildcards: Wildcards) -> list[str]:
    """What the routers on a shared expert are trained on, and held-out rows; of a task with other texts to train on
    the latter alone."""
    tasks = suite.featured(wildcards["shared"])
    own = {task: ("validation",) if suite.tasks[task].router_texts else ("train", "validation") for task in tasks}
    return [file for task in tasks for file in split_files(suite, [task], *own[task])]


def routed_texts(suite: Suite, wildcards: Wildcards) -> list[str]:
    """Files of this machine that the routers on a shared expert, or the base, are trained on."""
    found = [suite.tasks[task].router_texts for task in suite.featured(wildcards["shared"])]
    return [file for texts in found if texts is not None for file in texts.files()]


def finetuning_data(suite: Suite, wildcards: Wildcards) -> list[str]:
    """What one task's expert is trained on."""
    return [*split_files(suite, [wildcards["task"]], "train", "validation"), *label_names(suite, wildcards)]


def training_rows(suite: Suite, wildcards: Wildcards) -> list[str]:
    """The training rows of the tasks that a method merges."""
    return split_files(suite, suite.merged(wildcards["method"]), "train")


def test_data(suite: Suite, wildcards: Wildcards) -> list[str]:
    return split_files(suite, suite.evaluated(wildcards["model"]), "test")


def validation_data(suite: Suite, wildcards: Wildcards) -> list[str]:
    """The validation rows of one task, or of those that a method merges. Unseen tasks choose nothing."""
    tasks = [wildcards["task"]] if "task" in wildcards else suite.merged(wildcards["method"])
    return split_files(suite, tasks, "validation")


def plane_data(suite: Suite, wildcards: Wildcards) -> list[str]:
    """What the plane of two tasks' weights is evaluated on."""
    return split_files(suite, suite.plane.tasks if suite.plane else (), "validation")


def shown_data(suite: Suite, wildcards: Wildcards) -> list[str]:
    """The test rows of each task, as a reader is shown them: without in-context examples."""
    return [f"results/{suite.name}/data/{task}/test.parquet" for task in suite.tasks]


def shown_label_names(suite: Suite, wildcards: Wildcards) -> list[str]:
    return [file for task in suite.tasks for file in label_names(suite, {"task": task})]
