"""Dry runs of the profiles, which need no scheduler: that each is one, and how many submissions a suite is."""

import importlib.util
import re
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.storage.server import s3_server
from tests.workflow.running import REPOSITORY, snakemake
from twin_merging.plan.groups import GROUP_OF, GROUPS

RULES = "\n".join(path.read_text() for path in sorted((REPOSITORY / "workflow").rglob("*.smk")))
LOCAL = {"all", *re.findall(r"^rule (\w+):(?:(?!^rule |^use rule ).)*?^    localrule: True", RULES, flags=re.M | re.S)}

pytestmark = pytest.mark.workflow


def planned(folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """What a dry run of the repository's workflow prints, with its own profiles."""
    workflow = ("--snakefile", str(REPOSITORY / "Snakefile"))
    run = snakemake(folder, "--dry-run", *workflow, *arguments, environment=environment)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout + run.stderr


def submissions(said: str) -> Counter[str]:
    """How often each group, and each rule that stands in none, would be submitted. A rule whose jobs write weights in
    shards is called by its own name."""
    alone = [re.sub(r"_in_\d+$", "", rule) for rule in re.findall(r"^rule (\w+):", said, flags=re.M)]
    return Counter(
        re.findall(r"^\[.*\] Group job (\w+) ", said, flags=re.M) + [rule for rule in alone if rule not in LOCAL]
    )


@pytest.mark.parametrize("profile", ["default", "slurm", "generic/sge", "generic/pbs", "generic/lsf"])
def test_dry_run(profile: str, tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / ".test" / "config", tmp_path / "config")
    said = planned(tmp_path, "--workflow-profile", profile, *(["--resources", "gpu=4"] if profile == "default" else []))
    assert "This was a dry-run" in said
    assert profile == "default" or submissions(said) == Counter({group: 1 for group in GROUPS if group != "lm_eval"})


@pytest.mark.skipif(
    importlib.util.find_spec("snakemake_executor_plugin_kubernetes") is None,
    reason="needs the plugin for Kubernetes (`make test-kubernetes`): each start of Snakemake would take 0.4 s longer",
)
def test_dry_run_for_kubernetes(tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / ".test" / "config", tmp_path / "config")
    with s3_server(tmp_path / "server.log") as server:
        said = planned(tmp_path, "--workflow-profile", "kubernetes", environment=server)
    assert "This was a dry-run" in said
    assert submissions(said) == Counter({group: 1 for group in GROUPS if group != "lm_eval"})


def test_quickstart_is_few_submissions(tmp_path: Path) -> None:
    said = submissions(planned(tmp_path, "--workflow-profile", "slurm"))
    assert said["experts"] == 2
    assert said["answers"] == 3
    assert sum(said.values()) <= 15


def test_long_jobs_are_submitted_by_themselves_and_no_suite_has_a_group_that_depends_on_itself(tmp_path: Path) -> None:
    suites = ["glue", "glue-finetune", "minilm", "qwen", "quickstart-generative"]
    said = planned(tmp_path, "--workflow-profile", "slurm", "--", *(f"results/tables/{suite}.csv" for suite in suites))
    alone = submissions(said)
    assert alone["finetune"] >= 16  # of minilm, and of glue-finetune
    assert alone["predict"] >= 13  # of qwen
    assert set(alone) <= {*GROUPS, *GROUP_OF, "choose"} | {f"{rule}_{end}" for rule in GROUP_OF for end in ENDS}


ENDS = ("decoder", "adapter", "masked", "factors", "with_shots")


def test_a_profile_can_submit_a_rule_by_itself(tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / ".test" / "config", tmp_path / "config")
    said = submissions(planned(tmp_path, "--workflow-profile", "slurm", "--groups", "predict=alone"))
    assert said["alone"] == 5


def test_scattered_predictions_are_submitted_one_by_one_and_gathered_together(tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / ".test" / "config", tmp_path / "config")
    said = submissions(planned(tmp_path, "--workflow-profile", "slurm", "--config", "shards=3"))
    assert said["predict_shard"] == 15
    assert said["gathered"] == said["answers"] == 1
