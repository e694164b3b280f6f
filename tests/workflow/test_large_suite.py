"""How much a large suite plans."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny import large_suite
from tests.workflow.running import make_working_folder, rules_of, snakemake

pytestmark = pytest.mark.workflow


def test_jobs_of_twenty_tasks_and_fifty_methods_are_their_sum_and_not_their_product(tmp_path: Path) -> None:
    folder = make_working_folder(tmp_path)
    (folder / "config/suites/large.yaml").write_text(large_suite())
    run = snakemake(folder, "-n", "--", "results/tables/large.csv")
    assert rules_of(run) == {
        "fetch_base": 1,
        **dict.fromkeys(("fetch_data", "fetch_expert", "task_vectors", "compress"), 20),
        "merge": 26,
        "route_features": 1,
        "route": 6,
        "assemble": 24,
        "predict": 50 + 20 + 1,
        "score": 1,
        "intervals": 1,
        "snapshot": 1,
        "tabulate": 1,
    }
