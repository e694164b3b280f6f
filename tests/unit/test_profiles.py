"""The profiles in profiles/: their keys, what they share, and the commands of those for schedulers without a plugin."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from snakemake.cli import get_argument_parser

from twin_merging.plan.groups import GATHERED, GROUPS

PROFILES = Path(__file__).parents[2] / "profiles"
NAMES = ["default", "slurm", "kubernetes", "generic/sge", "generic/pbs", "generic/lsf"]
CLUSTERS = NAMES[1:]
SCHEDULERS = ["sge", "pbs", "lsf"]
QSUB = {"qsub": 'echo "$@"'}
JOB = SimpleNamespace(threads=4, resources=SimpleNamespace(mem_mb=1002, runtime=90, gpu=0))


def profile(name: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((PROFILES / name / "profile.yaml").read_text())
    return read


def run(command: str, folder: Path, tools: Mapping[str, str]) -> str:
    """What a shell prints for a command, where `tools` are the only programs of a scheduler: a script by its name."""
    for name, script in tools.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    path = f"{folder}:{os.environ['PATH']}"
    return subprocess.run(
        command, shell=True, check=True, capture_output=True, text=True, env={**os.environ, "PATH": path}
    ).stdout.strip()


def submit(name: str, folder: Path, tools: Mapping[str, str], gpu: int = 0) -> str:
    """What submitting a job prints, as Snakemake does it: the jobscript comes behind the command."""
    resources = SimpleNamespace(**{**vars(JOB.resources), "gpu": gpu})
    command = profile(f"generic/{name}")["cluster-generic-submit-cmd"].format(threads=JOB.threads, resources=resources)
    return run(f'{command} "/a folder/job.sh"', folder, tools)


def status(name: str, folder: Path, tools: Mapping[str, str]) -> str:
    return run(f"{profile(f'generic/{name}')['cluster-generic-status-cmd']} '17'", folder, tools)


@pytest.mark.parametrize("name", NAMES)
def test_snakemake_knows_every_key(name: str) -> None:
    known = {flag.removeprefix("--") for flag in get_argument_parser()._option_string_actions}
    unknown = set(profile(name)) - known
    # Not installed for the tests: each start of Snakemake would take 0.4 s longer.
    assert unknown <= {"kubernetes-namespace"}, f"profiles/{name}"


@pytest.mark.parametrize("name", CLUSTERS)
def test_a_profile_that_takes_the_place_of_the_default_says_what_that_says(name: str) -> None:
    own, default = profile(name), profile("default")
    if name == "kubernetes":  # nothing is shared there
        del default["shared-fs-usage"]
    assert {key: own.get(key) for key in default} == default


@pytest.mark.parametrize("name", CLUSTERS)
def test_every_group_has_its_size_in_every_profile(name: str) -> None:
    sizes = dict(entry.split("=") for entry in profile(name)["group-components"])
    assert set(sizes) == {*GROUPS, GATHERED}


@pytest.mark.parametrize("name", CLUSTERS)
def test_what_a_cluster_shares_of_the_profile_is_the_same_everywhere(name: str) -> None:
    keys = ("cores", "group-components", "resources", "set-resource-scopes", "retries", "keep-going", "local-cores")
    assert {key: profile(name).get(key) for key in keys} == {key: profile("slurm")[key] for key in keys}


def test_sge_asks_for_memory_by_slot_and_for_seconds(tmp_path: Path) -> None:
    said = submit("sge", tmp_path, QSUB)
    assert "-pe smp 4" in said
    assert "-l h_vmem=251M" in said
    assert "-l h_rt=5400" in said
    assert "gpu" not in said
    assert said.endswith("/a folder/job.sh")
    assert "-l gpu=2" in submit("sge", tmp_path, QSUB, gpu=2)


def test_pbs_asks_for_one_chunk(tmp_path: Path) -> None:
    said = submit("pbs", tmp_path, QSUB)
    assert "-l select=1:ncpus=4:mem=1002mb -l walltime=5400 /a folder/job.sh" in said
    assert ":mem=1002mb:ngpus=2 " in submit("pbs", tmp_path, QSUB, gpu=2)


def test_lsf_gives_the_number_of_the_job(tmp_path: Path) -> None:
    said = tmp_path / "said"
    tools = {"bsub": f'echo "$@" >{said}; echo "Job <17> is submitted to default queue <normal>."'}
    assert submit("lsf", tmp_path, tools) == "17"
    assert "-n 4 -R span[hosts=1] rusage[mem=1002] -M 1002 -W 90 /a folder/job.sh" in said.read_text()
    submit("lsf", tmp_path, tools, gpu=2)
    assert " -gpu num=2 " in said.read_text()


@pytest.mark.parametrize(
    ("name", "tools", "expected"),
    [
        ("sge", {"qstat": "exit 0", "qacct": "exit 1"}, "running"),
        ("sge", {"qstat": "exit 1", "qacct": "exit 1"}, "running"),  # ended, and not yet in the accounts
        ("sge", {"qstat": "exit 1", "qacct": "echo 'failed       0'; echo 'exit_status  0'"}, "success"),
        ("sge", {"qstat": "exit 1", "qacct": "echo 'failed       0'; echo 'exit_status  137'"}, "failed"),
        ("sge", {"qstat": "exit 1", "qacct": "echo 'failed       100 : assumedly'; echo 'exit_status  0'"}, "failed"),
        ("pbs", {"qstat": "echo '    job_state = R'"}, "running"),
        ("pbs", {"qstat": "exit 1"}, "running"),
        ("pbs", {"qstat": "echo '    job_state = F'; echo '    Exit_status = 0'"}, "success"),
        ("pbs", {"qstat": "echo '    job_state = F'; echo '    Exit_status = 271'"}, "failed"),
        ("lsf", {"bjobs": "echo RUN"}, "running"),
        ("lsf", {"bjobs": "exit 255"}, "running"),
        ("lsf", {"bjobs": "echo DONE"}, "success"),
        ("lsf", {"bjobs": "echo EXIT"}, "failed"),
    ],
)
def test_status_of_a_job(name: str, tools: dict[str, str], expected: str, tmp_path: Path) -> None:
    assert status(name, tmp_path, tools) == expected
