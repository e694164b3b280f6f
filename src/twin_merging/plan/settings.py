"""What each job's output depends on beside its inputs and the code: the `settings` parameter of every rule.

Settings are plain data in a fixed order, made of exactly those parts of a suite that the job reads, so that a change of
the suite makes stale what it changes and nothing else. `of_job` gives them for a rule and its wildcards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twin_merging.plan import lm_eval, settings_page
from twin_merging.plan import settings_choices as choices
from twin_merging.plan import settings_figures as figures
from twin_merging.plan import settings_models as models
from twin_merging.plan import settings_scores as scores
from twin_merging.plan import settings_sources as sources
from twin_merging.plan.settings_parts import Settings, Wildcards
from twin_merging.suite.suite import Suite


def of_job(suite: Suite, rule: str, wildcards: Wildcards, threads: Mapping[str, int] | None = None) -> Settings:
    """The settings of a job. `threads`: how many a stage's jobs have, 1 where it names none."""
    stage, function = RULES[rule]
    return function(suite, wildcards, (threads or {}).get(stage, 1))


# Each rule's stage, as `threads` of the configuration names it, and the function of its settings.
RULES: dict[str, tuple[str, Callable[[Suite, Wildcards, int], Settings]]] = {
    "fetch_base": ("fetch", sources.fetch_base),
    "fetch_base_decoder": ("fetch", sources.fetch_base),
    "fetch_expert": ("fetch", sources.fetch_expert),
    "fetch_adapter": ("fetch", sources.fetch_expert),
    "fetch_data": ("fetch", sources.fetch_data),
    "fetch_data_with_shots": ("fetch", sources.fetch_data),
    "fetch_router": ("fetch", sources.fetch_router),
    "generate_base": ("generate", sources.generate_base),
    "generate_base_decoder": ("generate", sources.generate_base),
    "generate_data": ("generate", sources.generate_data),
    "finetune": ("finetune", sources.finetune),
    "finetune_adapter": ("finetune", sources.finetune),
    "training_statistics": ("training_statistics", models.training_statistics),
    "joint_statistics": ("joint_statistics", models.joint_statistics),
    "task_vectors": ("task_vectors", models.task_vectors),
    "merge": ("merge", models.merge),
    "merge_masked": ("merge", models.merge),
    "merge_decoder": ("merge", models.merge),
    "merge_factors": ("merge", models.merge_factors),
    "answer_validation": ("predict", choices.answer_validation),
    "choose": ("predict", choices.choose),
    "compress": ("compress", models.compress),
    "compress_factors": ("compress", models.compress_factors),
    "route_features": ("route", models.route_features),
    "route": ("route", models.route),
    "assemble": ("assemble", models.assemble),
    "assemble_decoder": ("assemble", models.assemble),
    "assemble_factors": ("assemble", models.assemble),
    "predict": ("predict", models.predict),
    "predict_shard": ("predict", models.predict),
    "score": ("score", scores.score),
    "intervals": ("score", scores.intervals),
    "snapshot": ("snapshot", scores.snapshot),
    "storage": ("tabulate", scores.storage),
    "cost": ("tabulate", scores.cost),
    "card": ("card", scores.card),
    "tabulate": ("tabulate", scores.tabulate),
    "lm_eval": ("predict", lm_eval.settings),
    "lm_eval_table": ("tabulate", lm_eval.table_settings),
    "provenance": ("provenance", scores.provenance),
    "audit": ("predict", scores.audit),
    "compare": ("compare", scores.compare),
    "page": ("page", settings_page.page),
    "figure": ("figures", figures.figure),
    "plane": ("predict", figures.plane),
}
