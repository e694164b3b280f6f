"""Where the workflow can be started from: its two Snakefiles, another working directory, another workflow."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.workflow.running import REPOSITORY, jobs_of, rules_of, snakemake

pytestmark = pytest.mark.workflow

PLAIN = ("--dry-run", "--workflow-profile", "none")
TINY = REPOSITORY / ".test" / "config" / "suites"
MODULE = """
module twin:
    snakefile: "{repository}/workflow/Snakefile"
    config: {config}

use rule * from twin{rename}
"""


def test_each_snakefile_plans_the_same_jobs_from_anywhere(tmp_path: Path) -> None:
    """A working directory without a configuration takes the defaults, and the workflow's own suites."""
    plans = [
        jobs_of(snakemake(tmp_path, *PLAIN, "--snakefile", f"{REPOSITORY}/{name}"))
        for name in ("Snakefile", "workflow/Snakefile")
    ]
    assert plans[0] == plans[1]
    assert ("all", "") in plans[0]
    assert ("finetune", "sentiment") in plans[0]


def test_the_tiny_configuration_makes_its_own_suite_by_default(tmp_path: Path) -> None:
    run = snakemake(REPOSITORY, *PLAIN, "--directory", ".test", "--forceall", cores=2)
    assert run.returncode == 0, run.stderr
    assert rules_of(run) | {"generate_data": 2, "finetune": 1, "finetune_adapter": 1, "all": 1} == rules_of(run)
    assert not [name for _, name in jobs_of(run) if "acceptability" in name]


@pytest.mark.parametrize("rename", ["", " as twin_*"])
def test_another_workflow_uses_it_as_a_module(tmp_path: Path, rename: str) -> None:
    config = {"suites": str(TINY), "default_suite": "tiny"}
    (tmp_path / "Snakefile").write_text(MODULE.format(repository=REPOSITORY, config=config, rename=rename))
    run = snakemake(tmp_path, *PLAIN, "--", "results/audit/tiny.crate.zip")
    assert run.returncode == 0, run.stderr
    prefix = "twin_" if rename else ""
    assert {(f"{prefix}finetune", "sentiment"), (f"{prefix}merge", "merged"), (f"{prefix}crate", "")} <= jobs_of(run)


def test_the_output_that_shares_a_file_with_an_input_is_touched_first() -> None:
    """Snakemake touches a job's outputs in their order, and fails it where one is then older than an input."""
    text = (REPOSITORY / "workflow/rules/assemble.smk").read_text()
    first = re.findall(r"^    output:\n        (\w+)=", text, flags=re.MULTILINE)
    assert first == ["weights"] * text.count("    output:")
