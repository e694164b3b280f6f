"""lm-eval's tasks as a suite may name them: no code from the Hub, and of tasks of one's own every file is watched.

(Imports lm-eval, which is installed by its own extra.)
"""

from __future__ import annotations

import glob
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from lm_eval.tasks import TaskManager

from twin_merging.errors import UserError, first_line

log = logging.getLogger(__name__)


class Tasks(TaskManager):
    """lm-eval's own tasks; with `folder`, those of the files in it alone."""

    def __init__(self, folder: str | None):
        super().__init__(include_path=folder, include_defaults=folder is None)
        self.folder = folder

    def load(self, task_list: Any) -> Any:
        """Tasks with their rows, by name. Raises UserError for those that cannot be loaded, or may not be run."""
        for name in task_list:
            if name not in self.task_index:  # lm-eval would take it for a file's path
                near = ", ".join(get_close_matches(name, self.all_tasks)) or "none"
                raise UserError(
                    f"lm_eval.tasks: unknown task '{name}'; near ones: {near}; `lm-eval ls tasks` lists all"
                )
        names = ", ".join(task_list)
        with no_code_from_the_hub() as refused:
            try:
                found = super().load(task_list)
            except Exception as error:  # whatever a task file, its code or the library of data sets may raise
                log.exception("lm-eval cannot load %s", names)
                why = f"{type(error).__name__}: {first_line(error)}"
                raise UserError(f"lm_eval.tasks: {names}: {_remote(refused) or why}") from None
        if refused:
            raise UserError(f"lm_eval.tasks: {names}: {_remote(refused)}")
        for name, task in found["tasks"].items():
            check_task(name, task, self.folder)
        return found


def check_task(name: str, task: Any, folder: str | None) -> None:
    """Raise UserError for a task that runs what a model writes, that has no text alone, or whose rows change unseen."""
    if getattr(task, "UNSAFE_CODE", False):
        raise UserError(f"lm_eval.tasks: {name}: runs code that the model writes, which is not done here; leave it out")
    if getattr(task, "MULTIMODAL", False):
        raise UserError(f"lm_eval.tasks: {name}: asks about pictures or sound, which the suite's models do not read")
    if folder is None:
        return
    inside = Path(folder).resolve()
    for file in local_files(task.config.dataset_path, task.config.dataset_kwargs or {}):
        if not file.resolve().is_relative_to(inside):
            raise UserError(
                f"lm_eval.tasks: {name}: reads {file}, which is not in {folder}; put it there, so that a change is seen"
            )


def local_files(dataset: str | None, options: Mapping[str, Any]) -> Iterator[Path]:
    """The local files and folders that a task's rows are read from: a loader's, such as `json`, or a local folder's."""
    if dataset is None:
        return
    if Path(dataset).exists():
        yield Path(dataset)
    elif "/" not in dataset:  # a repository of the Hub has an owner
        for value in _texts([options.get("data_files"), options.get("data_dir")]):
            yield from map(Path, glob.glob(value, recursive=True))


def _texts(value: Any) -> Iterator[str]:
    """Every text in lists and mappings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple, Mapping)):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(inner)


@contextmanager
def no_code_from_the_hub() -> Iterator[list[str]]:
    """Meanwhile the library `evaluate` loads nothing: lm-eval asks it for metrics that it has not itself, and it would
    fetch and run their code. Gives the names that were asked for."""
    import evaluate

    asked: list[str] = []

    def load(path: str, *_: Any, **__: Any) -> Any:
        asked.append(path)
        raise UserError(_remote([path]))

    own, evaluate.load = evaluate.load, load
    try:
        yield asked
    finally:
        evaluate.load = own


def _remote(metrics: list[str]) -> str:
    return f"the metric '{metrics[0]}' is code from the Hub, which is not run; use one of lm-eval's" if metrics else ""
