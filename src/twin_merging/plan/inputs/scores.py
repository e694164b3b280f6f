"""Predictions, what lm-eval reads and found, and what a table is compared with."""

from __future__ import annotations

from pathlib import Path

from twin_merging.errors import UserError
from twin_merging.plan.inputs.files import Wildcards
from twin_merging.plan.lm_eval import asked_of, check_installed, task_files
from twin_merging.plan.targets import figures
from twin_merging.suite.suite import Suite


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


def shown_figures(suite: Suite, wildcards: Wildcards) -> list[str]:
    return figures(suite)
