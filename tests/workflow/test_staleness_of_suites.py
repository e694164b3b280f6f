"""What a change of a suite or of its results makes stale: after it, exactly these jobs run.

Every row is a suite of its own in one working folder (together.py), and one dry run plans them all.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.workflow.changes import comment, delete, edit, flip, nothing, several, take_line
from tests.workflow.conftest import targets
from tests.workflow.faulty import copied
from tests.workflow.running import jobs_of, snakemake
from tests.workflow.staleness import (
    DARE,
    MADE,
    MINE,
    RESULTS,
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
from tests.workflow.together import add_changed, renamed

pytestmark = pytest.mark.workflow

PRIVATE, ANSWERS = f"{RESULTS}/models/dare-ties/private", f"{RESULTS}/predictions/twin.parquet"
RECORD, PROVENANCE = f"{RESULTS}/records/merge/dare-ties.json", f"{RESULTS}/provenance.json"
ROUTER = "route(task-arithmetic) assemble(twin) predict(twin) ..."  # the suite's router, of one of the twins
STRICT = "task-arithmetic-strict"
FEATURES = f"route_features(*) route(*) {TWINS}"

KEPT = "snapshot() tabulate()"  # a run says every option, also one that nothing depends on

ROWS = [
    Row("nothing", nothing, ""),
    # The suite: its methods
    Row("a comment in the suite", comment(MINE), ""),
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
    Row(
        "a method's defaults written out",
        edit(MINE, "{method: weight_average}", "{weights: null, protocol: reference, method: weight_average}"),
        "",
    ),
    Row(
        "a rank beside a fraction, of the same shared expert",
        edit(MINE, "  emr:", "  small: {method: twin, shared: task-arithmetic, rank: 1}\n  emr:"),
        "compress(task-arithmetic/one task-arithmetic/two) assemble(small twin twin-onepass) "
        "predict(small twin twin-onepass) ...",
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
    Row("the suite's router as a method's own", edit(MINE, "  twin: {", "  twin: {router: {epochs: 3}, "), KEPT),
    Row("a metric", edit(MINE, "labels: 2\n    metric: accuracy", "labels: 2\n    metric: accuracy_f1"), "..."),
    Row("limits.test", edit(MINE, SECTION, f"limits: {{test: 25}}\n{SECTION}"), "predict(*) ..."),
    Row("limits.router", edit(MINE, SECTION, f"limits: {{router: 50}}\n{SECTION}"), FEATURES),
    Row("limits.train, with no fine-tuned expert", edit(MINE, SECTION, f"limits: {{train: 50}}\n{SECTION}"), KEPT),
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
    Row("records deleted", delete(f"{RESULTS}/records"), ""),
    Row(
        "a record deleted, of a job that runs again",
        several(delete(RECORD), edit(MINE, "density: 0.3", "density: 0.4")),
        DARE,
    ),
    Row(
        "a record deleted that the audit needs",
        delete(RECORD),
        f"{DARE} storage() provenance()",
        arguments=(PROVENANCE,),
    ),
    Row("logs and benchmarks deleted", several(delete(f"{RESULTS}/logs"), delete(f"{RESULTS}/benchmarks")), ""),
]
NAMES = {row.name: f"row-{number}" for number, row in enumerate(ROWS)}


@pytest.fixture(scope="module")
def every_job(placeholders: Path) -> dict[str, Jobs]:
    return every_job_of(placeholders)


@pytest.fixture(scope="module")
def plan(placeholders: Path, tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """The dry run of the suites of all rows."""
    folder = copied(placeholders, tmp_path_factory.mktemp("rows") / "run")
    wanted = []
    for row in ROWS:
        name = NAMES[row.name]
        add_changed(folder, row.suite, name, row.change)
        wanted += [renamed(file, row.suite, name) for file in (*targets(row.suite), *row.files)]
    return snakemake(folder, "-n", "--", *wanted)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_change_makes_exactly_this_stale(
    plan: subprocess.CompletedProcess[str], every_job: dict[str, Jobs], row: Row
) -> None:
    assert plan.returncode == 0, plan.stderr
    found, wanted = jobs_of(plan, NAMES[row.name]), expected(row.stale, every_job[row.suite])
    assert found == wanted, f"too many: {sorted(found - wanted)}; too few: {sorted(wanted - found)}"


@pytest.mark.parametrize("name", ["nothing", "a rank"])
def test_a_suite_alone_is_planned_as_beside_others(
    placeholders: Path, every_job: dict[str, Jobs], tmp_path: Path, name: str
) -> None:
    (row,) = [row for row in ROWS if row.name == name]
    folder = copied(placeholders, tmp_path / "run")
    row.change(folder)
    assert planned(folder, "mine") == expected(row.stale, every_job["mine"])
