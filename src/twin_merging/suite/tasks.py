"""A suite's tasks: whether data, labels and metric go together, and a local folder in the place of the Hub's GLUE."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twin_merging.io.schemas import one_of

GLUE_REPO = "nyu-mll/glue"
DATA_SOURCES = ("hub", "path", "generate")
BINARY_METRICS = ("matthews_correlation", "accuracy_f1")


def check_task(at: str, task: Mapping[str, Any]) -> None:
    """Raise ValueError where a task's data, labels and metric do not go together."""
    sources = [kind for kind in DATA_SOURCES if kind in task["data"]]
    if len(sources) != 1:
        raise ValueError(
            f"{at}.data: give exactly one of {', '.join(DATA_SOURCES)} (here: {', '.join(sources) or 'none'})"
        )
    if task["metric"] == "pearson_spearman" and task["labels"] != 1:
        raise ValueError(f"{at}: metric pearson_spearman is for a regression; set labels: 1, not {task['labels']}")
    if task["metric"] != "pearson_spearman" and task["labels"] == 1:
        raise ValueError(
            f"{at}: labels: 1 is a regression, which metric {task['metric']} cannot score; use pearson_spearman"
        )
    if task["metric"] in BINARY_METRICS and task["labels"] != 2:
        raise ValueError(f"{at}: metric {task['metric']} needs labels: 2, not {task['labels']}")
    if "generate" in task["data"]:
        _check_generated(at, task)


def _check_generated(at: str, task: Mapping[str, Any]) -> None:
    from twin_merging.synthetic.recipes import TASKS

    name = task["data"]["generate"]["task"]
    one_of(f"{at}.data.generate.task", name, "generated task", TASKS)
    for key, wanted in (("text", list(TASKS[name].text)), ("labels", TASKS[name].labels)):
        if task[key] != wanted:
            raise ValueError(f"{at}.{key}: the generated task '{name}' needs {key}: {wanted}, not {task[key]}")


def use_local_glue(at: str, task: dict[str, Any], glue: str | None) -> None:
    """Put a local folder in the place of the Hub's GLUE."""
    hub = task["data"].get("hub")
    if glue and hub and hub["repo"] == GLUE_REPO:
        if "config" not in hub:
            raise ValueError(f"{at}.data.hub: key 'config' is missing; it names the task of {GLUE_REPO}")
        task["data"] = {
            "path": str(Path(glue, hub["config"])),
            "splits": _local_splits(task["data"]["splits"]),
        }


def _local_splits(splits: Mapping[str, str]) -> dict[str, str]:
    """A local GLUE folder holds one validation file a task; MNLI's is the matched one."""
    return {use: split.replace("validation_matched", "validation") for use, split in splits.items()}
