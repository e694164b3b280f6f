"""Checks of options that were chosen on validation rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twin_merging.auditing.prediction_checks import TEST
from twin_merging.auditing.results import Findings, Job, Results
from twin_merging.choosing.best import best_of, normalised
from twin_merging.io.files import read_json
from twin_merging.merging.choices import candidates_of, choices_in, filled

SAME = 1e-9  # of averages, whose sums other versions may round otherwise


def check_choices(results: Results) -> Findings:
    """Each choice rests on no test row, is the best of what was tried, and is what its model was merged with."""
    found = Findings()
    count = candidates = 0
    for name, entry in results.content["methods"].items():
        if not choices_in(entry):
            continue
        count += 1
        file = results.of_suite("choices", f"{name}.json")
        job = results.makers.get(file)
        if job is None:
            found.fail(f"{file}: no record says what chose the options of {name}")
            continue
        written = read_json(results.path(file))
        candidates += len(written["candidates"])
        _check_read(results, found, file)
        _check_best(results, found, job, file, entry, written)
        _check_merged(results, found, job, name, entry, written)
    found.applies = count > 0
    found.facts = {"methods": count, "candidates": candidates}
    found.summary = "no option was chosen on validation rows"
    if count:
        found.summary = f"options of {count} methods are the best of {candidates} candidates; no test row was read"
    return found


def _check_read(results: Results, found: Findings, file: str) -> None:
    """No job that a choice rests on reads a test row, or what was made of one."""
    told = (results.of_suite("predictions"), results.of_suite("scores.csv"), "results/tables")
    for job in results.above([file]).values():
        for name in job["inputs"]:
            if Path(name).name == TEST or name.startswith(told):
                found.fail(f"{name}: {job['name']} read it, and the choice {file} rests on that job", job)


def _check_best(
    results: Results, found: Findings, job: Job, file: str, entry: Mapping[str, Any], written: Mapping[str, Any]
) -> None:
    """The candidates are those of the suite, their averages follow from their scores, and the first best is chosen."""
    wanted = candidates_of(choices_in(entry))
    if [one["values"] for one in written["candidates"]] != wanted:
        found.fail(f"{file}: its candidates are not the {len(wanted)} of the suite", job)
        return
    experts = {}
    for task in written["experts"]:
        experts[task] = read_json(results.path(results.of_suite("choices", "experts", f"{task}.json")))["score"]
        if experts[task] != written["experts"][task]:
            found.fail(
                f"{file}: expert {task} scores {written['experts'][task]} here, but {experts[task]} by itself", job
            )
    averages = [normalised(one["scores"], experts)[1] for one in written["candidates"]]
    for one, average in zip(written["candidates"], averages, strict=True):
        if abs(one["average"] - average) > SAME * max(1.0, abs(average)):
            found.fail(f"{file}: {one['values']}: average {one['average']} is written, its scores give {average}", job)
    best = wanted[best_of(averages)]
    if written["chosen"] != best:
        found.fail(f"{file}: chose {written['chosen']}, but {best} is the best of what was tried", job)


def _check_merged(
    results: Results, found: Findings, job: Job, name: str, entry: Mapping[str, Any], written: Mapping[str, Any]
) -> None:
    """The model was merged with what was chosen."""
    file = results.of_suite("models", name, "merge.json")
    options = read_json(results.path(file))["options"]
    wanted = filled(entry, written["chosen"])
    for path in written["chosen"]:
        option = path.partition(".")[0]
        if options.get(option) != wanted[option]:
            maker = results.makers.get(file, job)
            found.fail(f"{file}: merged with {option} {options.get(option)}, but {wanted[option]} was chosen", maker)
