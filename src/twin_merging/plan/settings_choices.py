"""Settings of what is chosen on validation rows."""

from __future__ import annotations

from typing import Any

from twin_merging.plan import settings_models as models
from twin_merging.plan.settings_parts import Settings, Wildcards, of_task, of_tasks
from twin_merging.routing.expected import CROSS_ROWS
from twin_merging.suite.suite import Suite


def answer_validation(suite: Suite, wildcards: Wildcards, threads: int) -> Settings:
    """Of one expert on its own task."""
    return {
        **of_task(suite, wildcards, lambda task: task.answered_as()),
        "metric": suite.tasks[wildcards["task"]].metric,
        **_answering(suite),
        "threads": threads,
    }


def choose(suite: Suite, wildcards: Wildcards, threads: int) -> Settings:
    """As for the merge of the method, or for its assembly, of the tasks that it merges; and how their validation rows
    are answered and scored: few of them, where each is answered by every task's vector."""
    method = wildcards["method"]
    made = (models.assemble if method in suite.dynamic else models.merge)(suite, wildcards, threads)
    merged, crosses = suite.merged(method), suite.methods[method].crosses
    heads = {name: suite.tasks[name].whole.head for name in merged} if "heads" in made else None
    return {
        **{key: value for key, value in made.items() if key not in ("left_out", "heads")},
        **({} if heads is None else {"heads": heads}),
        **of_tasks(suite, merged, lambda task: task.answered_as()),
        "metrics": {name: suite.tasks[name].metric for name in merged},
        "head": suite.head(method),
        **_answering(suite),
        **({"limit": min(CROSS_ROWS, suite.says.limits.validation or CROSS_ROWS)} if crosses else {}),
        "threads": threads,
    }


def _answering(suite: Suite) -> dict[str, Any]:
    return {
        "limit": suite.says.limits.validation,
        "inference": suite.says.inference.plain(),
        "dtype": suite.says.base.dtype,
    }
