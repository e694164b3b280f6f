"""What bases, experts and data are fetched from."""

from __future__ import annotations

from twin_merging.fetching.declared import Source
from twin_merging.plan.inputs.files import Wildcards, label_names
from twin_merging.plan.settings_sources import may_name_labels
from twin_merging.plan.united import looked_at
from twin_merging.suite.locks import lock_file
from twin_merging.suite.suite import Suite


def base_source(suite: Suite, wildcards: Wildcards) -> list[str]:
    """Local files that the base is fetched from, and those of experts whose tokens it gets."""
    return [file for source in (suite.says.base, *looked_at(suite).values()) for file in source.files()]


def expert_source(suite: Suite, wildcards: Wildcards) -> list[str]:
    return suite.tasks[wildcards["task"]].expert.files()


def data_source(suite: Suite, wildcards: Wildcards) -> list[str]:
    return suite.tasks[wildcards["task"]].data.files()


def path_label_names(suite: Suite, wildcards: Wildcards) -> list[str]:
    """What says how the labels of an expert's task are called, where the task's local files may say it."""
    task = suite.tasks[wildcards["task"]]
    says = may_name_labels(task) == "path" and any(file.endswith(".parquet") for file in task.data.files())
    return label_names(suite, wildcards) if says else []


def hub_label_names(suite: Suite, wildcards: Wildcards) -> list[str]:
    """The same where a data set of the Hub may say it. Its time does not count: the settings hold the data set's
    revision, and other splits or other code of the fetch change no names."""
    return label_names(suite, wildcards) if may_name_labels(suite.tasks[wildcards["task"]]) == "hub" else []


def suite_file(suite: Suite, wildcards: Wildcards) -> str:
    return str(suite.file)


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
    """Also for the experts whose tokens it gets."""
    found = [folder for source in (suite.says.base, *looked_at(suite).values()) for folder in _locks(suite, source)]
    return found[:1]


def expert_locks(suite: Suite, wildcards: Wildcards) -> list[str]:
    return _locks(suite, suite.tasks[wildcards["task"]].expert)


def data_locks(suite: Suite, wildcards: Wildcards) -> list[str]:
    return _locks(suite, suite.tasks[wildcards["task"]].data)


def router_locks(suite: Suite, wildcards: Wildcards) -> list[str]:
    return [str(suite.file.parent)]
