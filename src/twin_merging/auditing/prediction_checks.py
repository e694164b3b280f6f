"""Checks of what models answered: a random sample of rows recomputed, and test rows kept apart from every choice."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin_merging.auditing.results import Findings, Job, Results

if TYPE_CHECKING:
    import pandas as pd

    from twin_merging.prediction.answers import RowAnswer
    from twin_merging.tasks.task import Answers

# How far a recomputed logit, value or weight may be from the one that was written, by what the model is evaluated in:
# another processor, another batch or a GPU changes the last bits of sums.
TOLERANCES = {"float32": 1e-3, "float16": 1e-2, "bfloat16": 5e-2}
ROWS = 16
TEST = "test.parquet"


def check_predictions(results: Results, rows: int = ROWS, seed: int = 0) -> Findings:
    """Every prediction stands beside its own row's reference, and a random sample of each model's is recomputed."""
    found = Findings()
    whole = recomputed = 0
    for job in results.of_rule("predict"):
        model = job["wildcards"]["model"]
        name = results.of_suite("predictions", f"{model}.parquet")
        try:
            written = _read(results.path(name))
            if not _compare_references(results, found, job, name, written):
                continue
            sample = sorted(random.Random(f"{seed} {model}").sample(range(len(written)), min(rows, len(written))))
            if not results.is_as_made(name):
                sample, whole = list(range(len(written))), whole + 1
            _recompute(results, found, job, name, written.iloc[sample])
        except Exception as error:  # files may be damaged in any way: what cannot be checked has failed
            found.fail(f"{name}: cannot be recomputed: {type(error).__name__}: {_first_line(error)}", job)
            continue
        recomputed += len(sample)
    jobs = list(results.of_rule("predict"))
    models, tolerance = len(jobs), max((TOLERANCES[job["settings"]["dtype"]] for job in jobs), default=0.0)
    found.facts = {"models": models, "rows a model": rows, "seed": seed, "recomputed": recomputed,
                   "models recomputed in full": whole, "tolerance": tolerance}  # fmt: skip
    found.summary = (
        f"{recomputed} predictions of {models} models recomputed ({rows} rows a model, seed {seed}): the same within "
        f"{tolerance:g}"
    )
    return found


def _read(path: Path) -> pd.DataFrame:
    import pandas as pd

    return pd.read_parquet(path)


def _plain(value: Any) -> Any:
    """A cell with a list in the place of an array."""
    return value.tolist() if hasattr(value, "tolist") else value


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0]


def _compare_references(results: Results, found: Findings, job: Job, name: str, written: pd.DataFrame) -> bool:
    """Whether tasks and rows are those of the data, with the labels that the data has."""
    from twin_merging.prediction.files import references_of
    from twin_merging.prediction.predict import test_rows

    settings, before = job["settings"], len(found.failures)
    tasks = _tasks_of(results, settings)
    data = {task: results.path(results.of_suite("data", task)) for task in tasks}
    wanted = references_of(test_rows(data, settings["limit"], settings.get("sample")), tasks)
    if len(written) != len(wanted) or not (written[["task", "row"]] == wanted[["task", "row"]]).all(axis=None):
        found.fail(f"{name}: its rows are not the {len(wanted)} test rows of the data", job)
        return False
    for line, right in zip(written.to_dict("records"), wanted["reference"], strict=True):
        reference = _plain(line["reference"])
        if reference != _plain(right):
            found.fail(f"{name}: task {line['task']}, row {line['row']}: reference {reference} is not the row's", job)
    return len(found.failures) == before


def _recompute(results: Results, found: Findings, job: Job, name: str, written: pd.DataFrame) -> None:
    """Answer rows as the predict stage does, or ask the model about what it wrote, and compare."""
    from twin_merging.prediction.answers import answer_rows
    from twin_merging.prediction.files import stored_rows
    from twin_merging.prediction.predict import load_merged, load_unmerged, test_rows
    from twin_merging.tasks.families import family_named

    settings = job["settings"]
    tasks, dtype = _tasks_of(results, settings), settings["dtype"]
    if settings["merged"]:
        directory = results.path(results.of_suite("models", job["wildcards"]["model"]))
        model = load_merged(directory, dtype)
    else:
        directory = results.path(results.of_suite("base"))
        experts = {task: results.path(results.of_suite("experts", task)) for task in tasks}
        model = load_unmerged(settings["family"], directory, experts, tasks, settings["body"], dtype)
    asked = [str(task) for task in dict.fromkeys(written["task"])]
    data = {task: results.path(results.of_suite("data", task)) for task in asked}
    rows = test_rows(data, settings["limit"], settings.get("sample"))
    sample = {task: rows[task].iloc[written.loc[written["task"] == task, "row"].tolist()] for task in asked}
    lines = stored_rows(written, family_named(settings["family"]).columns)
    answers = answer_rows(
        model, directory, sample, tasks=tasks, inference=settings["inference"], head=settings["head"], stored=lines
    )
    choices = [own for task in asked for own in tasks[task].choices(sample[task])]
    tolerance = TOLERANCES[dtype]
    for line, answer, own in zip(lines, answers, choices, strict=True):
        at = f"{name}: task {line['task']}, row {line['row']}"
        for fault in tasks[line["task"]].faults(line, answer.answer, own, tolerance):
            found.fail(f"{at}: {fault}", job)
        if not _same_weights(line["weights"], answer, tolerance):
            found.fail(f"{at}: the router's weights are not those that are written", job)


def _tasks_of(results: Results, settings: Any) -> dict[str, Answers]:
    """How each task's rows are answered, from the settings of a predict job."""
    from twin_merging.tasks.families import family_named

    family = family_named(settings["family"])
    data = {task: results.path(results.of_suite("data", task)) for task in settings["tasks"]}
    return family.views(family.answers, settings["tasks"], data)


def _same_weights(written: Any, answer: RowAnswer, tolerance: float) -> bool:
    if written is None or answer.weights is None:
        return written is None and answer.weights is None
    pairs = zip(written, answer.weights, strict=True)
    return all(abs(weight - again) <= tolerance for weight, again in pairs)


def check_test_rows(results: Results) -> Findings:
    """No job that a model rests on reads a test row, a prediction or a score. How many test rows occur among training
    rows too is a property of the data: it is counted, and fails nothing."""
    from twin_merging.tasks.families import family_named

    found = Findings()
    read = [name for job in results.of_rule("predict") for name in job["inputs"]]
    above = results.above(name for name in read if Path(name).name != TEST)
    told = [results.of_suite("predictions"), results.of_suite("scores.csv"), "results/tables"]
    for job in above.values():
        for name in job["inputs"]:
            if Path(name).name == TEST or name.startswith(tuple(told)):
                found.fail(f"{name}: {job['name']} read it, and a model rests on that job", job)
    family = family_named(results.content["family"])
    overlaps = {
        task: _overlaps(results, task, list(family.of_entry(entry).columns))
        for task, entry in results.content["tasks"].items()
    }
    count = sum(entry["train or validation"] for entry in overlaps.values())
    found.facts = {"jobs that models rest on": len(above), "test rows with the text of another split's row": overlaps}
    found.summary = (
        f"none of the {len(above)} jobs that models rest on reads a test row; {count} test rows have the text of a "
        "training or validation row"
    )
    return found


def _overlaps(results: Results, task: str, text: list[str]) -> dict[str, int]:
    """Test rows of a task, and those whose text occurs in training and validation rows."""
    tables = {split: _read(results.path(results.of_suite("data", task, f"{split}.parquet")))[text].astype(str)
              for split in ("train", "validation", "test")}  # fmt: skip
    rows = {split: list(table.itertuples(index=False, name=None)) for split, table in tables.items()}
    train, validation = set(rows["train"]), set(rows["validation"])
    return {
        "test rows": len(rows["test"]),
        "train": sum(row in train for row in rows["test"]),
        "validation": sum(row in validation for row in rows["test"]),
        "train or validation": sum(row in train or row in validation for row in rows["test"]),
    }
