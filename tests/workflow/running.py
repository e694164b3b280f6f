"""Running the workflow in a folder of its own, as a user would."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import twin_merging
from twin_merging.io.files import sha256
from twin_merging.jobs.client import ONE_THREAD

REPOSITORY = Path(__file__).parents[2]
LOADED = REPOSITORY / "tests" / "loaded"
OFFLINE = {"HF_HUB_OFFLINE": "1"}
# What a run may write anew with other bytes: times, and what was measured.
MEASURED = ("logs", "benchmarks", "records")
STORE = "results/.store"


def make_working_folder(folder: Path) -> Path:
    """A folder with the workflow's files in it. The profile sets no logger: tests read what Snakemake itself prints."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("workflow", "config", "profiles"):
        shutil.copytree(REPOSITORY / name, folder / name)
    for name in ("Snakefile", "environment.yml", "environment-lm-eval.yml"):
        shutil.copy(REPOSITORY / name, folder / name)
    profile = folder / "profiles" / "default" / "profile.yaml"
    profile.write_text(re.sub(r"^logger: .*\n", "", profile.read_text(), flags=re.M))
    return folder


def copy_library(folder: Path) -> Path:
    """A copy of the library in `folder`/src, which `snakemake` then runs with."""
    source = Path(twin_merging.__file__).parent
    return shutil.copytree(source, folder / "src" / "twin_merging", ignore=shutil.ignore_patterns("__pycache__"))


def command(*arguments: str, cores: int = 2) -> list[str]:
    return [sys.executable, "-m", "snakemake", "--cores", str(cores), *arguments]


def variables(folder: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Environment variables of a run in `folder`: no network, and the folder's own library where it has one."""
    first = [str(folder / "src")] if (folder / "src").is_dir() else [os.environ.get("PYTHONPATH", "")]
    path = os.pathsep.join(part for part in [*first, str(LOADED)] if part)
    return {**os.environ, **OFFLINE, "PYTHONPATH": path, "LOADED_LIBRARIES": libraries(), **(more or {})}


@cache
def libraries() -> str:
    """The socket of a process that has the libraries loaded (tests/loaded), which ends with this run of the tests."""
    run = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    name = f"twin-merging-tests-{run}"
    if sys.platform == "linux":
        subprocess.Popen(
            [sys.executable, str(LOADED / "forks.py"), name, str(run)],
            env={**os.environ, **OFFLINE, **ONE_THREAD},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    return name


def snakemake(
    folder: Path, *arguments: str, cores: int = 2, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Snakemake in `folder`, without a network unless `environment` says otherwise."""
    return subprocess.run(
        command(*arguments, cores=cores),
        cwd=folder,
        env=variables(folder, environment),
        capture_output=True,
        text=True,
        check=False,
    )


def hashes_of(results: Path) -> dict[str, str]:
    """SHA-256 of every file of a results folder by its path there, but for what is measured, the store, and Snakemake's
    stamps."""
    paths = sorted(path for path in results.rglob("*") if path.is_file())
    inside = [path.relative_to(results) for path in paths]
    return {
        str(path): sha256(results / path)
        for path in inside
        if path.name != ".snakemake_timestamp"
        and not {*MEASURED, Path(STORE).name} & set(path.parts)
        and not _is_of_a_run(path)
    }


def _is_of_a_run(path: Path) -> bool:
    """Whether a file holds times because it is what is kept of a run. Which run the results hold is no such file."""
    return path.parent.name == "runs" and path.name != "newest.json"


def rules_of(run: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """How often each rule would run (or ran), from the table of jobs that Snakemake prints."""
    found = re.search(r"^job +count\n-[- ]+\n(.*?)^total", run.stdout + run.stderr, flags=re.S | re.M)
    lines = found[1].splitlines() if found else []
    return {name: int(count) for name, count in (line.split() for line in lines if line.strip())}


def jobs_of(run: subprocess.CompletedProcess[str], suite: str | None = None) -> set[tuple[str, str]]:
    """Every job (of one suite) that would run or was started: its rule and its wildcards but for the suite, `one` or
    `shared/one`. The digest that ends a router's folder is left out."""
    blocks = re.findall(r"^(?:local)?rule (\w+):\n((?:    .*\n)*)", run.stdout + run.stderr, flags=re.M)
    jobs = set()
    for rule, block in blocks:
        line = re.search(r"^    wildcards: (.*)$", block, flags=re.M)
        values = dict(part.split("=", 1) for part in line[1].split(", ")) if line else {}
        if suite not in (None, values.get("suite")):
            continue
        name = "/".join(value for key, value in values.items() if key != "suite")
        jobs.add((rule, re.sub(r"-[0-9a-f]{6}$", "", name)))
    return jobs
