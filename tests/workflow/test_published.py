"""Published scores beside a suite's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.workflow.faulty import copied
from tests.workflow.running import rules_of, snakemake

pytestmark = pytest.mark.workflow

SUITE, TABLE = "config/suites/mine.yaml", "results/tables/mine-published.csv"


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    return copied(finished, tmp_path / "run")


def test_scores_stand_beside_published_ones_in_one_more_job(folder: Path) -> None:
    (folder / SUITE).write_text(f"published: published.csv\n{(folder / SUITE).read_text()}")
    lines = ["model,task,scale,value,source", "twin,one,normalised,90,paper", "expert-one,two,absolute,40,paper"]
    (folder / "published.csv").write_text("\n".join(lines))
    run = snakemake(folder, "--", TABLE)
    assert rules_of(run) == {"compare": 1}, run.stderr
    assert (folder / TABLE).with_suffix(".md").is_file()
    found: Any = pd.read_csv(folder / TABLE).set_index(["model", "task"])
    normalised: Any = pd.read_csv(folder / "results/tables/mine.csv").set_index("model")
    cross: Any = pd.read_csv(folder / "results/tables/mine-experts.csv").set_index("expert")
    assert found.loc[("twin", "one"), "ours"] == normalised.loc["twin", "one"]
    assert found.loc[("expert-one", "two"), "ours"] == cross.loc["one", "two"]
    (folder / "published.csv").write_text("\n".join([*lines, "twin,three,normalised,90,paper"]))
    run = snakemake(folder, "--", TABLE)
    assert run.returncode != 0
    assert "\nerror: published.csv:4: unknown task 'three'; allowed: avg, one, two\n" in run.stderr
    assert "Traceback" not in run.stderr


def test_published_scores_that_no_suite_names_are_one_line(folder: Path) -> None:
    run = snakemake(folder, "--", TABLE)
    assert run.returncode != 0
    (line,) = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert line.endswith("mine.yaml: key 'published' is missing; name a file of published scores to compare with")
    assert "Traceback" not in run.stderr
