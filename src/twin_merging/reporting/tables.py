"""Stage tabulate: makes a suite's tables from its scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from twin_merging.io.files import whole_file, write_text
from twin_merging.reporting.cells import Intervals
from twin_merging.reporting.choices import choices_section
from twin_merging.reporting.contents import Contents
from twin_merging.reporting.latex_tables import latex_tables
from twin_merging.reporting.markdown import markdown_page
from twin_merging.reporting.normalisation import (
    EXPERTS,
    absolute_scores,
    normalised_scores,
    own_scores,
    with_average,
)
from twin_merging.reporting.routing import routed_rows, router_scores
from twin_merging.reporting.subsets import PRETRAINED, Subsets, notes, unseen_scores, without_left_out


def write_tables(
    *,
    title: str,
    suite: str,
    scores: Path,
    intervals: Path,
    tasks: Sequence[str],
    knowledge: Mapping[str, Mapping[str, str]],
    protocols: Mapping[str, Mapping[str, str]],
    told_more: Sequence[str],
    predictions: Mapping[str, Path],
    router_metrics: Mapping[str, Path],
    outputs: Mapping[str, Path],
    subsets: Subsets | None = None,
    choices: Sequence[Path] = (),
) -> None:
    """Write a suite's tables: the normalised and the absolute one, every expert on every task, the two about routers,
    and that of tasks which models answer without having merged them. All as CSV and on one page in Markdown, the first
    three in LaTeX too.

    scores, intervals: the files that rules score and intervals wrote.
    knowledge: for each model `protocol`, and `true_task`: what it was told about the true task of a test row.
    protocols: of each, what becomes of each group of parameters (merge, expert, base); told_more: the merged models
    that are told more than these, and are not marked as best.
    predictions, router_metrics: for each model with a router, its predictions, and the measurements of its router.
    subsets: the models that are about some of the tasks. outputs: paths named normalised, markdown, absolute, experts,
    router, routing, unseen, and latex, latex_absolute, latex_experts. choices: for each model with options that were
    chosen on validation rows, what rule choose wrote.
    """
    lines, subsets = pd.read_csv(scores), subsets or {}
    everything = absolute_scores(lines, tasks)
    absolute = without_left_out(everything, subsets)
    cross = absolute.loc[[f"expert-{task}" for task in tasks]].rename(index=lambda name: name.removeprefix("expert-"))
    found = Contents(
        title=title,
        suite=suite,
        rows=lines.drop_duplicates("task").set_index("task")["rows"],
        normalised=normalised_scores(absolute),
        absolute=with_average(own_scores(absolute)),
        experts=cross.rename_axis("expert").reset_index(),
        router=router_scores(predictions, router_metrics, tasks),
        routing=routed_rows(predictions, router_metrics, tasks),
        unseen=_unseen(everything, subsets, knowledge),
        intervals=Intervals.read(intervals),
        knowledge=knowledge,
        protocols=protocols,
        told_more=told_more,
        about_some=notes(subsets),
        choices=choices_section(choices),
    )
    _write_csv(_with_knowledge(found.normalised, knowledge), outputs["normalised"])
    _write_csv(_with_knowledge(found.absolute, knowledge), outputs["absolute"])
    for name in ("experts", "router", "routing", "unseen"):
        _write_csv(getattr(found, name), outputs[name])
    write_text(outputs["markdown"], markdown_page(found))
    for name, text in latex_tables(found).items():
        write_text(outputs[name], text)


def _unseen(everything: pd.DataFrame, subsets: Subsets, knowledge: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    """Of a task that is not merged a model has the head and nothing else, as the base has it."""
    found = unseen_scores(everything, subsets)
    told = [knowledge[model if model == EXPERTS else PRETRAINED]["true_task"] for model in found["model"]]
    found.insert(2, "protocol", [knowledge[model]["protocol"] for model in found["model"]])
    found.insert(3, "true_task", told)
    return found


def _with_knowledge(table: pd.DataFrame, knowledge: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    found = table.rename_axis("model").reset_index()
    found.insert(1, "protocol", [knowledge[model]["protocol"] for model in found["model"]])
    found.insert(2, "true_task", [knowledge[model]["true_task"] for model in found["model"]])
    return found


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    with whole_file(path) as partial:
        table.to_csv(partial, index=False, float_format="%.4f")
