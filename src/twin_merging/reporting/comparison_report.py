"""Writes the comparison with published scores as a page in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from twin_merging.reporting.normalisation import ABSOLUTE, AVERAGE, NORMALISED, markdown_table
from twin_merging.reporting.published import SEPARATOR

ABOUT = (
    "The difference is our score minus the published one. A number in brackets names a source in the list at the end. "
    "A score that is called computed is not itself published, but computed from published scores: an average is the "
    "mean over the tasks, and a normalised score is 100 x the model's absolute score / the expert's. A published model "
    "is compared with the suite's model of the same name; nothing else is checked."
)


def report(title: str, table: pd.DataFrame, models: Sequence[str], tasks: Sequence[str]) -> str:
    """The page. table: as `reporting.comparison.compared` makes it. models: all models of the suite."""
    stated = table[table["origin"] == "published"]
    numbers = {source: f"[{number}]" for number, source in enumerate(stated["source"].unique(), start=1)}
    experts = table["model"].str.startswith("expert-")
    normalised, absolute = (table[(table["scale"] == scale) & ~experts] for scale in (NORMALISED, ABSOLUTE))
    parts = [
        f"# {title}: beside published scores",
        ABOUT,
        *_section("Normalised scores, average over tasks", _averages(normalised, numbers)),
        *_section("Normalised scores", _by_task(normalised, [*tasks, AVERAGE], numbers)),
        *_section("Absolute scores, in percent, average over tasks", _averages(absolute, numbers)),
        *_section("Absolute scores, in percent", _by_task(absolute, [*tasks, AVERAGE], numbers)),
        *_section("Every expert on every task: absolute scores, in percent", _by_task(table[experts], tasks, numbers)),
    ]
    compared = set(table["model"])
    missing = [model for model in models if model not in compared and not model.startswith("expert-")]
    if missing:
        parts.append(f"Nothing is published of {', '.join(missing)}.")
    parts += ["## Sources", "\n".join([f"* ours: {_rows(table['rows'])}", *_described(stated, numbers)])]
    return "\n\n".join(parts) + "\n"


def _section(heading: str, table: pd.DataFrame) -> list[str]:
    return [f"## {heading}", markdown_table(table)] if len(table) else []


def _averages(lines: pd.DataFrame, numbers: Mapping[str, str]) -> pd.DataFrame:
    """A table with a row for each published average."""
    found = lines[lines["task"] == AVERAGE]
    origins = zip(found["origin"], found["source"], strict=True)
    source = [_cited(source, numbers) if origin == "published" else f"computed from {_cited(source, numbers)}"
              for origin, source in origins]  # fmt: skip
    return found[["model", "ours", "published", "difference"]].assign(source=source)


def _by_task(lines: pd.DataFrame, columns: Sequence[str], numbers: Mapping[str, str]) -> pd.DataFrame:
    """For each model, a row of our scores, and for each source a row of its scores and a row of differences."""
    rows = []
    for model, of_model in lines.groupby("model", sort=False):
        of_tasks = of_model[of_model["source"].isin(of_model.loc[of_model["task"] != AVERAGE, "source"])]
        ours = of_tasks.dropna(subset="ours").drop_duplicates("task").set_index("task")["ours"]
        scores = [("ours", ours)] if len(ours) else []
        for source, group in of_tasks.groupby("source", sort=False):
            found, cited = group.set_index("task"), _cited(str(source), numbers)
            scores.append((f"{found['origin'].iloc[0]} {cited}", found["published"]))
            scores += [(f"difference {cited}", found["difference"])] if len(ours) else []
        rows += [
            {"model": "" if number else model, "score": score, **values}
            for number, (score, values) in enumerate(scores)
        ]
    return pd.DataFrame(rows).reindex(columns=["model", "score", *columns])


def _cited(source: str, numbers: Mapping[str, str]) -> str:
    return " ".join(numbers[part] for part in source.split(SEPARATOR))


def _described(stated: pd.DataFrame, numbers: Mapping[str, str]) -> list[str]:
    """A line for each source, with its numbers of rows and its notes."""
    found = []
    for source, number in numbers.items():
        lines = stated[stated["source"] == source]
        notes = [
            f"{', '.join(group['model'].unique())}: {note}"
            for note, group in lines[lines["note"] != ""].groupby("note", sort=False)
        ]
        found.append("; ".join([f"* {number} {source}, {_rows(lines['published_rows'])}", *notes]))
    return found


def _rows(counts: pd.Series) -> str:
    known = sorted(counts.dropna().unique())
    if not known:
        return "rows not known"
    return f"{known[0]} to {known[-1]} rows a task" if len(known) > 1 else f"{known[0]} rows a task"
