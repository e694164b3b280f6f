"""What a change of code, of sources, of times or of the call makes stale: after it, exactly these jobs run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.workflow.changes import (
    append,
    clone,
    comment,
    delete,
    docstring,
    edit,
    flip,
    nothing,
    other_profile,
    other_torch,
    statement,
    touch,
    written_anew,
)
from tests.workflow.conftest import targets
from tests.workflow.faulty import copied
from tests.workflow.running import hashes_of, jobs_of, snakemake
from tests.workflow.staleness import (
    COMPRESSED,
    CONFIG,
    DARE,
    LIBRARY,
    MINE,
    OTHER,
    SECTION,
    TUNED,
    TWINS,
    WEIGHTS,
    Jobs,
    Row,
    every_job_of,
    expected,
    planned,
)

pytestmark = pytest.mark.workflow

METRICS, READING = f"{LIBRARY}/scoring/metrics.py", f"{LIBRARY}/io/tensors.py"
MERGED = "merge(*) merge_masked(*) compress(*) route_features(*) route(*) assemble(*) predict(*) ..."
READ = f"fetch_base() fetch_expert(*) task_vectors(*) training_statistics(*) {MERGED}"
EXPERT = f"fetch_expert(two) task_vectors(two) training_statistics(gram-matrices/two) {MERGED}"
DATA = (
    "fetch_data(one) training_statistics(gram-matrices/one) merge(regmean) route_features(*) route(*) assemble(*) "
    "predict(*) ..."
)

# What no job of either suite depends on.
HARMLESS = [
    # Comments and the like, in every kind of file
    Row("other quotes, line breaks and parentheses", written_anew(READING), ""),
    Row("another docstring", docstring(READING), ""),
    Row("a comment in a script", comment("workflow/scripts/compress.py"), ""),
    Row("a comment in a rule file", comment("workflow/rules/merge.smk"), ""),
    Row("a comment in the Snakefile", comment("workflow/Snakefile"), ""),
    Row("a comment in the Snakefile that includes it", comment("Snakefile"), ""),
    Row("a comment in a library module", comment(READING), ""),
    Row("a comment in a merging method", comment(f"{LIBRARY}/merging/methods/ties.py"), ""),
    Row("a comment in the configuration", comment(CONFIG), ""),
    Row("a change in the documentation", append("config/README.md", "\nMore.\n"), ""),
    Row("a comment in a module of every job", comment(f"{LIBRARY}/errors.py"), ""),
    # What jobs ask of their machine
    Row("another formula of memory and time", statement(f"{LIBRARY}/plan/resources.py"), ""),
    Row("GPUs asked for", edit(CONFIG, "gpus: 0", "gpus: 2"), ""),
    Row("a size that a suite says", edit(MINE, "path: inputs/base}", "path: inputs/base, size: 4GB}"), ""),
    Row("other resources", nothing, "", arguments=("--set-resources", "merge:mem_mb=9000")),
    # Times
    Row("every file touched", touch, ""),
]
# What no job of the suite `mine` depends on, which makes nothing itself.
HARMLESS_MINE = [
    # The library's code, but for what the suite's jobs do
    Row("a change in the package's own __init__", statement(f"{LIBRARY}/__init__.py"), ""),
    Row("a change in fine-tuning, of which the suite has none", statement(f"{LIBRARY}/finetuning/finetune.py"), ""),
    Row("a change in registration with transformers, which no job does", statement(f"{LIBRARY}/api/auto.py"), ""),
    # Other suites
    Row("another suite changed", edit(OTHER, "seed: 0", "seed: 1"), ""),
    Row("another suite that cannot be read", edit("config/suites/glue.yaml", "title:", "titel:"), ""),
    Row("another suite added", lambda folder: shutil.copy(folder / MINE, folder / "config/suites/more.yaml"), ""),
    # The configuration, the packages, and how Snakemake is called
    Row("other cores", nothing, "", arguments=("--cores", "1")),
    Row("another profile", other_profile, "", arguments=("--workflow-profile", "profiles/other")),
    Row("another executor", nothing, "", arguments=("--executor", "local")),
    Row("threads of merging, which change no byte", edit(CONFIG, "  merge: 1", "  merge: 2"), ""),
    Row("another version of a Python package", other_torch, ""),
]
ROWS = [
    # The workflow's and the library's code
    Row("a change in a script", statement("workflow/scripts/tabulate.py"), "tabulate()"),
    Row("a change in a script with jobs below", statement("workflow/scripts/compress.py"), COMPRESSED),
    Row(
        "a change in a router module",
        edit(f"{LIBRARY}/routing/training.py", "%s: held-out accuracy %.4f", "%s: accuracy %.4f"),
        f"route(*) {TWINS}",
    ),
    Row(
        "a change in a router module that models load",
        statement(f"{LIBRARY}/routing/router.py"),
        "route(*) assemble(*) predict(*) ...",
    ),
    Row(
        "a change in the metrics",
        edit(METRICS, "(outputs == references).mean()", "np.mean(outputs == references)"),
        "...",
    ),
    Row(
        "a change in the metrics, where they choose experts",
        statement(METRICS),
        f"finetune(*) finetune_adapter(*) {TUNED.format('*')}",
        "made",
    ),
    Row("a change in the tables", statement(f"{LIBRARY}/reporting/tables.py"), "tabulate()"),
    Row("a change in the model cards", statement(f"{LIBRARY}/reporting/card.py"), "card(*)"),
    Row("a change in the reading of checkpoints", statement(READING), READ),
    Row(
        "a change in one method's module",
        statement(f"{LIBRARY}/merging/methods/regression.py"),
        "merge(regmean) predict(regmean) ...",
    ),
    Row("a change in an inner method's module", statement(f"{LIBRARY}/merging/methods/ties.py"), DARE),
    Row("a change in compression", statement(f"{LIBRARY}/compression/compress.py"), COMPRESSED),
    Row(
        "a change in the module by which transformers loads a dynamic model",
        edit(f"{LIBRARY}/model/directory.py", "\nregister()\n", "\nregister()  # with transformers\n"),
        "assemble(*) predict(*) ...",
    ),
    # What the suite names
    Row("a task's data", append("inputs/data/one/test.jsonl", '{"sentence": "w1", "label": 0}\n'), DATA),
    Row("an expert replaced", flip("inputs/experts/two/model.safetensors"), EXPERT),
    Row("the base replaced", flip("inputs/base/model.safetensors"), READ),
    # Places and threads
    Row("a fresh clone with the results put back", clone, ""),
    Row("threads of compressing, which change sums", edit(CONFIG, "  compress: 1", "  compress: 2"), COMPRESSED),
]


@pytest.fixture(scope="module")
def every_job(placeholders: Path) -> dict[str, Jobs]:
    return every_job_of(placeholders)


@pytest.fixture
def folder(placeholders: Path, tmp_path: Path) -> Path:
    return copied(placeholders, tmp_path / "run")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_change_makes_exactly_this_stale(folder: Path, every_job: dict[str, Jobs], row: Row) -> None:
    row.change(folder)
    found = planned(folder, row.suite, options=row.options)
    wanted = expected(row.stale, every_job[row.suite])
    assert found == wanted, f"too many: {sorted(found - wanted)}; too few: {sorted(wanted - found)}"


@pytest.mark.parametrize(
    ("suites", "rows"), [(("mine", "made"), HARMLESS), (("mine",), HARMLESS_MINE)], ids=["both suites", "mine"]
)
def test_changes_that_make_nothing_stale_make_nothing_stale_together(
    placeholders: Path, folder: Path, tmp_path: Path, suites: tuple[str, ...], rows: list[Row]
) -> None:
    """All at once, in one call. If that plans a job, each change is tried alone, to name those that it is due to."""
    assert {row.stale for row in rows} == {""}
    for row in rows:
        row.change(folder)
    if planned(folder, *suites, options=[option for row in rows for option in row.options]):
        alone = {}
        for row in rows:
            row.change(copied(placeholders, tmp_path / "alone"))
            alone[row.name] = planned(tmp_path / "alone", *suites, options=row.options)
        stale = {name: jobs for name, jobs in alone.items() if jobs}
        pytest.fail(f"stale after one change alone: {stale}")


PLANNED = {
    "a change in the tables": (statement(f"{LIBRARY}/reporting/tables.py"), "tabulate()"),
    "two options that swap their values": (
        edit(MINE, "0.5, then: {method: ties, density: 0.3}", "0.3, then: {method: ties, density: 0.5}"),
        DARE,
    ),
    "the seed": (
        edit(MINE, SECTION, f"seed: 1\n{SECTION}"),
        "merge(dare-ties) route(task-arithmetic) assemble(twin) predict(dare-ties twin) ...",
    ),
}


@pytest.mark.parametrize("name", PLANNED)
def test_what_is_planned_is_what_runs(folder: Path, every_job: dict[str, Jobs], name: str) -> None:
    change, stale = PLANNED[name]
    change(folder)
    run = snakemake(folder, "--", *targets("mine"))
    assert run.returncode == 0, run.stderr
    assert jobs_of(run) == expected(stale, every_job["mine"])
    assert planned(folder, "mine") == set()


@pytest.mark.parametrize("mend", ["deleted", "forced"])
def test_a_corrupted_output_is_mended_by_making_it_again(placeholders: Path, folder: Path, mend: str) -> None:
    flip(WEIGHTS)(folder)
    if mend == "deleted":
        delete(WEIGHTS)(folder)
        run = snakemake(folder, "--", *targets("mine"), WEIGHTS)
    else:
        run = snakemake(folder, "--forcerun", WEIGHTS, "--", *targets("mine"))
    assert run.returncode == 0, run.stderr
    assert hashes_of(folder / "results") == hashes_of(placeholders / "results")
