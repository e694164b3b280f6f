"""What each change makes stale: after it, exactly these jobs run. docs/reproducibility.md says the same in words."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.workflow.changes import (
    Change,
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
    several,
    statement,
    take_line,
    touch,
    written_anew,
)
from tests.workflow.conftest import targets
from tests.workflow.running import hashes_of, jobs_of, snakemake

pytestmark = pytest.mark.workflow

MINE, MADE, OTHER, CONFIG = (
    f"config/{file}.yaml" for file in ("suites/mine", "suites/made", "suites/minilm", "config")
)
LIBRARY, RESULTS = "src/twin_merging", "results/mine"


@dataclass(frozen=True)
class Row:
    """A change, and the jobs that it makes stale: `rule(names)` each, where a job's name is its wildcards but for the
    suite, `*` every job of the rule, and `...` score, cards and tables. `arguments`: more of them for the call."""

    name: str
    change: Change
    stale: str
    suite: str = "mine"
    arguments: tuple[str, ...] = ()


METRICS, READING = f"{LIBRARY}/scoring/metrics.py", f"{LIBRARY}/io/tensors.py"
WEIGHTS, PRIVATE = (f"{RESULTS}/models/dare-ties/{name}" for name in ("model.safetensors", "private"))
ANSWERS = f"{RESULTS}/predictions/twin.parquet"
DARE = "merge(dare-ties) predict(dare-ties) ..."
ROUTER = "route(task-arithmetic) assemble(twin) predict(twin) ..."  # the suite's router, of one of the twins
STRICT = "task-arithmetic-strict"
TWINS = "assemble(*) predict(twin twin-onepass twin-strict) ..."
COMPRESSED = f"compress(*) route(task-arithmetic/projection-layer-1) {TWINS}"
FEATURES = f"route_features(*) route(*) {TWINS}"
MERGED = "merge(*) merge_masked(*) compress(*) route_features(*) route(*) assemble(*) predict(*) ..."
READ = f"fetch_base() fetch_expert(*) task_vectors(*) training_statistics(*) {MERGED}"
EXPERT = f"fetch_expert(two) task_vectors(two) training_statistics(gram/two) {MERGED}"
DATA = (
    "fetch_data(one) training_statistics(gram/one) merge(regmean) route_features(*) route(*) assemble(*) predict(*) ..."
)
TUNED = "task_vectors({0}) merge(*) compress(*) route_features(*) route(*) assemble(*) predict(*) ..."
SECTION = "router: {shared: task-arithmetic, epochs: 3, batch_size: 16}"

ROWS = [
    Row("nothing", nothing, ""),
    # Comments and the like, in every kind of file
    Row("a comment in a script", comment("workflow/scripts/compress.py"), ""),
    Row("a comment in a rule file", comment("workflow/rules/merge.smk"), ""),
    Row("a comment in the Snakefile", comment("workflow/Snakefile"), ""),
    Row("a comment in the Snakefile that includes it", comment("Snakefile"), ""),
    Row("a comment in a library module", comment(READING), ""),
    Row("a comment in a module of every job", comment(f"{LIBRARY}/errors.py"), "", "made"),
    Row("a comment in a merging method", comment(f"{LIBRARY}/merging/methods/ties.py"), ""),
    Row("a comment in the suite", comment(MINE), ""),
    Row("a comment in the configuration", comment(CONFIG), ""),
    Row("a change in the documentation", append("config/README.md", "\nMore.\n"), ""),
    Row("another docstring", docstring(READING), ""),
    Row("other quotes, line breaks and parentheses", written_anew(READING), ""),
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
    Row("a change in the package's own __init__", statement(f"{LIBRARY}/__init__.py"), ""),
    Row("a change in fine-tuning, of which the suite has none", statement(f"{LIBRARY}/finetuning/finetune.py"), ""),
    Row("a change in registration with transformers, which no job does", statement(f"{LIBRARY}/api/auto.py"), ""),
    Row(
        "a change in the module by which transformers loads a dynamic model",
        edit(f"{LIBRARY}/model/directory.py", "\nregister()\n", "\nregister()  # with transformers\n"),
        "assemble(*) predict(*) ...",
    ),
    # The suite: its methods
    Row(
        "a method added",
        edit(MINE, "  emr:", "  ties: {method: ties, density: 0.2}\n  emr:"),
        "merge(ties) predict(ties) ...",
    ),
    Row(
        "a dynamic method added",
        edit(MINE, "  emr:", "  top: {method: twin, fraction: 0.1, top_k: 1}\n  emr:"),
        "assemble(top) predict(top) ...",
    ),
    Row("a method removed", take_line(MINE, "^  dare-ties:"), "..."),
    Row("a method renamed", edit(MINE, "  dare-ties:", "  dropped:"), "merge(dropped) predict(dropped) ..."),
    Row("methods in another order", take_line(MINE, "^  dare-ties:", 13), "..."),
    Row("an option", edit(MINE, "density: 0.3", "density: 0.4"), DARE),
    Row(
        "two options that swap their values",
        edit(MINE, "0.5, then: {method: ties, density: 0.3}", "0.3, then: {method: ties, density: 0.5}"),
        DARE,
    ),
    Row(
        "two methods that swap their options",
        several(
            edit(MINE, "  dare-ties:", "  between:"),
            edit(MINE, "  regmean:", "  dare-ties:"),
            edit(MINE, "  between:", "  regmean:"),
        ),
        "merge(dare-ties regmean) predict(dare-ties regmean) ...",
    ),
    Row(
        "a method's keys in another order",
        edit(
            MINE,
            "drop_rate: 0.5, then: {method: ties, density: 0.3}",
            "then: {density: 0.3, method: ties}, drop_rate: 0.5",
        ),
        "",
    ),
    Row(
        "a rank",
        edit(MINE, "rank: 3", "rank: 2"),
        f"compress({STRICT}/one {STRICT}/two) assemble(twin-strict) predict(twin-strict) ...",
    ),
    Row(
        "a method's protocol",
        edit(MINE, "{method: emr, protocol: strict}", "{method: emr}"),
        "merge_masked(emr) predict(emr) ...",
    ),
    # The suite: the rest
    Row("the title", edit(MINE, "Two tiny tasks", "Two small tasks"), "card(*) tabulate()"),
    Row(
        "sections, keys of a task and of the router in another order",
        several(
            take_line(MINE, "^title:", 0),
            edit(MINE, "labels: 2\n    metric: accuracy", "metric: accuracy\n    labels: 2"),
            edit(MINE, SECTION, "router: {batch_size: 16, epochs: 3, shared: task-arithmetic}"),
        ),
        "",
    ),
    Row(
        "defaults written out",
        edit(MINE, SECTION, f"{SECTION[:-1]}, features: last, kind: mlp}}\nlimits: {{test: null}}\nseed: 0"),
        "",
    ),
    Row("a router option", edit(MINE, "epochs: 3", "epochs: 4"), ROUTER),
    Row(
        "two router options that swap their values",
        edit(MINE, "epochs: 3, batch_size: 16", "epochs: 16, batch_size: 3"),
        ROUTER,
    ),
    Row("the suite's router as a method's own", edit(MINE, "  twin: {", "  twin: {router: {epochs: 3}, "), ""),
    Row("a metric", edit(MINE, "labels: 2\n    metric: accuracy", "labels: 2\n    metric: accuracy_f1"), "..."),
    Row("limits.test", edit(MINE, SECTION, f"limits: {{test: 25}}\n{SECTION}"), "predict(*) ..."),
    Row("limits.router", edit(MINE, SECTION, f"limits: {{router: 50}}\n{SECTION}"), FEATURES),
    Row("limits.train, with no fine-tuned expert", edit(MINE, SECTION, f"limits: {{train: 50}}\n{SECTION}"), ""),
    Row(
        "statistics.rows",
        edit(MINE, SECTION, f"statistics: {{rows: 9}}\n{SECTION}"),
        "training_statistics(*) merge(regmean) predict(regmean) ...",
    ),
    Row(
        "the seed",
        edit(MINE, SECTION, f"seed: 1\n{SECTION}"),
        "merge(dare-ties) route(task-arithmetic) assemble(twin) predict(dare-ties twin) ...",
    ),
    Row("the seed of a suite that makes everything", edit(MADE, "protocol: strict", "seed: 1"), "*", "made"),
    Row(
        "an option of one fine-tuning",
        edit(MADE, "epochs: 1,", "epochs: 2,"),
        f"finetune(sentiment) {TUNED.format('sentiment')}",
        "made",
    ),
    Row("another suite changed", edit(OTHER, "seed: 0", "seed: 1"), ""),
    Row("another suite that cannot be read", edit(OTHER, "seed: 0", "sed: 0"), ""),
    Row("another suite added", lambda folder: shutil.copy(folder / MINE, folder / "config/suites/more.yaml"), ""),
    # What the suite names
    Row("a task's data", append("inputs/data/one/test.jsonl", '{"sentence": "w1", "label": 0}\n'), DATA),
    Row("an expert replaced", flip("inputs/experts/two/model.safetensors"), EXPERT),
    Row("the base replaced", flip("inputs/base/model.safetensors"), READ),
    # Results, by hand
    Row("the table deleted", delete("results/tables/mine.csv"), "tabulate()"),
    Row("a file deleted that nothing needs now", delete(WEIGHTS), ""),
    Row("a deleted file that is asked for", delete(WEIGHTS), DARE, arguments=(WEIGHTS,)),
    Row("a deleted folder that is asked for", delete(PRIVATE), DARE, arguments=(PRIVATE,)),
    Row("deleted predictions that are asked for", delete(ANSWERS), "predict(twin) ...", arguments=(ANSWERS,)),
    Row(
        "a model's weights corrupted",
        flip(WEIGHTS),
        "predict(dare-ties) ...",
    ),
    Row("a table corrupted", flip("results/tables/mine.csv"), ""),
    Row("logs and benchmarks deleted", several(delete(f"{RESULTS}/logs"), delete(f"{RESULTS}/benchmarks")), ""),
    # Times, places, and how Snakemake is called
    Row("every file touched", touch, ""),
    Row("every file touched, of a suite that makes everything", touch, "", "made"),
    Row("a fresh clone with the results put back", clone, ""),
    Row("other cores", nothing, "", arguments=("--cores", "1")),
    Row("another profile", other_profile, "", arguments=("--workflow-profile", "profiles/other")),
    Row("another executor", nothing, "", arguments=("--executor", "local")),
    Row("threads of merging, which change no byte", edit(CONFIG, "  merge: 1", "  merge: 2"), ""),
    Row("threads of compressing, which change sums", edit(CONFIG, "  compress: 1", "  compress: 2"), COMPRESSED),
    Row("another version of a Python package", other_torch, ""),
]


def planned(folder: Path, suite: str, *arguments: str) -> set[tuple[str, str]]:
    """The jobs that a dry run of a suite plans. `arguments`: options, and files asked for beside the suite's."""
    files = [argument for argument in arguments if argument.startswith("results/")]
    options = [argument for argument in arguments if argument not in files]
    run = snakemake(folder, "-n", *options, "--", *targets(suite), *files)
    assert run.returncode == 0, run.stderr
    jobs = jobs_of(run)
    assert bool(jobs) != ("Nothing to be done" in run.stdout + run.stderr)
    return jobs


@pytest.fixture(scope="module")
def every_job(finished: Path) -> dict[str, set[tuple[str, str]]]:
    return {suite: planned(finished, suite, "--forceall") for suite in ("mine", "made")}


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished folder, with its times."""
    subprocess.run(["cp", "-a", str(finished), str(tmp_path / "run")], check=True)
    return tmp_path / "run"


def expected(stale: str, every: set[tuple[str, str]]) -> set[tuple[str, str]]:
    if stale == "*":
        return every
    jobs: set[tuple[str, str]] = set()
    for rule, names in re.findall(r"(\w+)\((.*?)\)", stale.replace("...", "score() card(*) tabulate()")):
        jobs |= {job for job in every if job[0] == rule} if names == "*" else {(rule, n) for n in names.split() or [""]}
    return jobs


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_change_makes_exactly_this_stale(folder: Path, every_job: dict[str, set[tuple[str, str]]], row: Row) -> None:
    row.change(folder)
    found = planned(folder, row.suite, *row.arguments)
    wanted = expected(row.stale, every_job[row.suite])
    assert found == wanted, f"too many: {sorted(found - wanted)}; too few: {sorted(wanted - found)}"


@pytest.mark.parametrize("name", ["a change in the tables", "two options that swap their values", "the seed"])
def test_what_is_planned_is_what_runs(folder: Path, every_job: dict[str, set[tuple[str, str]]], name: str) -> None:
    (row,) = [row for row in ROWS if row.name == name]
    row.change(folder)
    run = snakemake(folder, "--", *targets("mine"))
    assert run.returncode == 0, run.stderr
    assert jobs_of(run) == expected(row.stale, every_job["mine"])
    assert planned(folder, "mine") == set()


@pytest.mark.parametrize("mend", ["deleted", "forced"])
def test_a_corrupted_output_is_mended_by_making_it_again(finished: Path, folder: Path, mend: str) -> None:
    flip(WEIGHTS)(folder)
    if mend == "deleted":
        delete(WEIGHTS)(folder)
        run = snakemake(folder, "--", *targets("mine"), WEIGHTS)
    else:
        run = snakemake(folder, "--forcerun", WEIGHTS, "--", *targets("mine"))
    assert run.returncode == 0, run.stderr
    assert hashes_of(folder / "results") == hashes_of(finished / "results")
