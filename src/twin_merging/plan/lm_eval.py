"""What the workflow says of evaluation with lm-eval before any job runs: settings, the library, the suite's task files.

Nothing here imports lm-eval. Of a task file only the names are read, that a suite may name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from twin_merging.errors import UserError, unknown
from twin_merging.suite.lm_eval import LmEval
from twin_merging.suite.suite import Suite

INSTALL = 'pip install "twin-merging[lm-eval]" (docs/lm-eval.md)'
# Folders that hold nothing of a task's.
_LEFT_OUT = ("__pycache__", ".ipynb_checkpoints")


class _Loader(yaml.SafeLoader):
    """YAML in which a tag that is not YAML's own, as lm-eval's !function, stands for nothing."""


_Loader.add_multi_constructor("!", lambda loader, suffix, node: None)


def asked_of(suite: Suite) -> LmEval:
    """What a suite asks of lm-eval. Raises UserError for a suite that asks nothing."""
    if suite.lm_eval is None:
        raise UserError(f"{suite.file}: key 'lm_eval' is missing; say there which tasks, see config/README.md")
    return suite.lm_eval


def settings(suite: Suite, wildcards: Mapping[str, str], threads: int) -> dict[str, Any]:
    """What a model's results depend on: which model it is, a merged one, or (`body` None) the base, or a task's expert;
    and what is asked of it."""
    model = wildcards["model"]
    return {
        "merged": model in suite.methods,
        "body": model.removeprefix("expert-") if model.startswith("expert-") else None,
        "family": suite.family,
        "tasks": list(suite.tasks),
        "dtype": suite.says.base.dtype,
        "lm_eval": asked_of(suite).asked(),
        "threads": threads,
    }


def table_settings(suite: Suite, wildcards: Mapping[str, str], threads: int) -> dict[str, Any]:
    """A row of an lm-eval task is of none of the suite's tasks: no model is told of one."""
    models = dict.fromkeys(suite.lm_eval_models, "nothing")
    return {"title": suite.says.title, "models": models, "threads": threads}


def check_installed(suite: Suite) -> None:
    """Raise UserError where lm-eval is not installed."""
    try:
        version("lm_eval")
    except PackageNotFoundError:
        raise UserError(
            f"{suite.file}: key 'lm_eval' needs the library lm-eval, which is not installed: {INSTALL}"
        ) from None


def task_files(suite: Suite) -> list[str]:
    """Every file of the folder that a suite's own tasks lie in: task files, code, and rows. None for lm-eval's tasks.

    Raises UserError where the folder is missing, or has no task of a name that the suite gives.
    """
    asked = asked_of(suite)
    if asked.include_path is None:
        return []
    folder = Path(asked.include_path)
    if not folder.is_dir():
        raise UserError(f"{suite.file}: lm_eval.include_path: {folder}: no such folder; put the task files there")
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not _is_left_out(path.relative_to(folder)))
    known = {name for file in files if file.suffix == ".yaml" for name in _names(file)}
    for name in asked.tasks:
        if name not in known:
            raise UserError(f"{suite.file}: lm_eval.tasks: {unknown('task', name, known)} (by the files in {folder})")
    return [str(file) for file in files]


def _is_left_out(path: Path) -> bool:
    return any(part.startswith(".") or part in _LEFT_OUT for part in path.parts)


def _names(file: Path) -> Iterator[str]:
    """The names that a task file gives: of its task, of its group, and tags."""
    content = _content(file, ())
    for key in ("group", "task", "tag"):
        value = content.get(key)
        if key == "task" and "group" in content:
            continue  # a group's members, which have files of their own
        yield from [value] if isinstance(value, str) else filter(_is_text, value if isinstance(value, list) else ())


def _content(file: Path, above: tuple[Path, ...]) -> Mapping[str, Any]:
    """A task file with what it includes; nothing for one that cannot be read, which lm-eval leaves out too."""
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), _Loader)
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    if not isinstance(content, dict):
        return {}
    included = content.get("include", [])
    files = [file.parent / name for name in ([included] if isinstance(included, str) else included) if _is_text(name)]
    found: dict[str, Any] = {}
    for other in files:
        if other not in (*above, file):
            found |= _content(other, (*above, file))
    return {**found, **content}


def _is_text(value: Any) -> bool:
    return isinstance(value, str)
