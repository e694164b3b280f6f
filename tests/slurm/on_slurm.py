"""The workflow on a real Slurm of one node: `make test-slurm`, as root. It is no part of `make test`: while Slurm's
configuration lies in /etc/slurm, every start of Snakemake on this machine asks it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.workflow.running import REPOSITORY, hashes_of, variables

CLUSTER = REPOSITORY / "tests" / "slurm" / "cluster"
STATE = Path(os.environ.get("TWIN_SLURM_STATE", "/tmp/twin-merging-slurm"))
# Of this cluster: it has as many cores as the machine, no data base of jobs, and is asked for news often.
HERE = (
    "--cores", "2", "--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "1",
    "--latency-wait", "10", "--slurm-no-account"
)  # fmt: skip
# Beside Snakemake, on the machine where it was started.
LOCAL = {"all", "tabulate", "cost", "provenance", "page"}
# Files that tell of times, and those that show such a file.
TIMES = {"tiny/provenance.json", "tables/tiny-cost.csv", "tables/tiny-cost.md", "tiny/index.html"}
ON_A_GPU = {"experts", "routed", "answers"}  # groups with a job that runs a model


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    subprocess.run([CLUSTER, "start"], check=True)
    yield
    subprocess.run([CLUSTER, "stop"], check=True)


def made(folder: Path, old: str = "", new: str = "") -> Path:
    """A working folder with the tiny suite, in which `old` is replaced."""
    shutil.copytree(REPOSITORY / ".test" / "config", folder / "config")
    suite = folder / "config" / "suites" / "tiny.yaml"
    text = suite.read_text()
    assert old in text
    suite.write_text(text.replace(old, new))
    return folder


@contextmanager
def started(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A call of Snakemake, which is ended with the block."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile"), *arguments]
    with subprocess.Popen(
        command, cwd=folder, env=variables(folder), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def jobs() -> list[dict[str, str]]:
    """What Slurm knows of all its jobs."""
    names = {
        "number": "JobID", "state": "State", "memory": "MinMemory", "gpus": "tres-per-job", "partition": "Partition",
        "comment": "Comment"
    }  # fmt: skip
    said = subprocess.run(
        ["squeue", "--noheader", "--states", "all", "--sort", "i", "--Format", ":|,".join(names.values()) + ":"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    found = [dict(zip(names, line.split("|"), strict=True)) for line in said.splitlines()]
    return [{**job, "group": job["comment"].removeprefix("rule_").partition("_")[0]} for job in found]


def since(number: int) -> list[dict[str, str]]:
    return [job for job in jobs() if int(job["number"]) > number]


def newest() -> int:
    return max((int(job["number"]) for job in jobs()), default=0)


def processes_of_jobs() -> list[str]:
    """Processes that Slurm started, or that came from those."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"SLURM_JOB_ID=" in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            pass
    return found


def log_of(folder: Path) -> str:
    (log,) = (folder / ".snakemake" / "log").glob("*.log")
    return log.read_text()


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[dict[str, str]], str]:
    """The tiny suite on this machine and on Slurm: the two folders, Slurm's jobs, and what Snakemake printed. Jobs that
    run a model have a GPU. `merge` asks for too little memory at its first attempt."""
    here, there = (made(tmp_path_factory.mktemp(name) / "run") for name in ("here", "there"))
    partitions = str(REPOSITORY / "profiles" / "slurm" / "partitions.yaml")
    options = (
        "--config",
        "gpus=1",
        "--set-resources",
        "merge:mem_mb=200*attempt**3",
        "--slurm-partition-config",
        partitions,
    )
    with started(here, "--cores", "2") as alone, started(there, "--workflow-profile", "slurm", *HERE, *options) as run:
        printed, _ = run.communicate(timeout=900)
        assert run.returncode == 0, printed
        said, _ = alone.communicate(timeout=300)
        assert alone.returncode == 0, said
    print(printed)
    return here, there, jobs(), printed


def test_every_job_but_the_shortest_is_one_of_slurm(ran: tuple[Path, Path, list[dict[str, str]], str]) -> None:
    _, folder, submitted, _ = ran
    log = log_of(folder)
    assert set(re.findall(r"^\s*localrule (\w+):", log, flags=re.M)) == LOCAL
    assert len(re.findall("has been submitted with SLURM jobid", log)) == len(submitted) == 9  # `merge` twice
    groups = ["sources", "experts", "merged", "merged", "routed", "answers", "scores", "tables", "figures"]
    assert sorted(job["group"] for job in submitted) == sorted(groups)


def test_the_same_bytes_as_on_one_machine(ran: tuple[Path, Path, list[dict[str, str]], str]) -> None:
    here, there, _, _ = ran
    own, other = (hashes_of(folder / "results") for folder in (here, there))
    assert set(own) == set(other)
    assert {name for name in own if own[name] != other[name]} <= TIMES
    assert len(set(own) - TIMES) > 80


def test_a_gpu_for_who_asks_for_one(ran: tuple[Path, Path, list[dict[str, str]], str]) -> None:
    _, _, submitted, _ = ran
    seen = dict(line.split() for line in (STATE / "devices").read_text().splitlines())
    for job in submitted:
        asked = job["group"] in ON_A_GPU
        assert job["gpus"].endswith("gpu:1") == asked, job
        assert job["partition"] == ("gpu" if asked else "cpu"), job
        assert (seen[job["number"]] in ("0", "1")) == asked, (job, seen)


def test_a_job_that_had_too_little_memory_is_tried_again_with_more(
    ran: tuple[Path, Path, list[dict[str, str]], str],
) -> None:
    _, _, submitted, printed = ran
    first, second = (job for job in submitted if job["group"] == "merged")
    assert (first["state"], first["memory"]) == ("FAILED", "200M")
    assert (second["state"], second["memory"]) == ("COMPLETED", "1600M")
    ended = (STATE / "slurmd.log").read_text()
    assert re.search(rf"\[{first['number']}\.\w+\] error: .*[Ee]xceeded .*memory limit", ended)
    assert "failed: merge merged after" in printed
    assert "tried again, with more memory and time" in printed


def test_a_wrong_input_is_one_sentence_on_the_terminal(tmp_path: Path) -> None:
    data = "data: {generate: {task: sentiment, train: 64, validation: 20, test: 20}}"
    folder = made(tmp_path / "run", data, "data: {path: rows}")
    (folder / "rows").mkdir()
    for split in ("train", "validation", "test"):
        (folder / "rows" / f"{split}.csv").write_text("sentence,label\ngood,1\nbad,7\n")
    with started(folder, "--workflow-profile", "slurm", *HERE, "--retries", "0") as run:
        printed, _ = run.communicate(timeout=300)
    assert run.returncode == 1
    assert printed.count("failed: ") == 1, printed
    sentence = printed.partition("failed: fetch_data sentiment after")[2].splitlines()[1]
    assert "7" in sentence, printed
    assert "Traceback" not in printed


def test_ctrl_c_ends_all_jobs(tmp_path: Path) -> None:
    folder, before = made(tmp_path / "run", "steps: 5", "steps: 1000000"), newest()
    with started(folder, "--workflow-profile", "slurm", *HERE) as run:
        log, until = folder / "results/tiny/logs/generate_base.log", time.monotonic() + 300
        while not (log.is_file() and "of 1000000 steps" in log.read_text()):
            assert run.poll() is None
            assert time.monotonic() < until, jobs()
            time.sleep(0.5)
        running = [job["group"] for job in since(before) if job["state"] == "RUNNING"]
        assert "generate" in running  # `generate_base` asks for too long to stand in a group
        run.send_signal(signal.SIGINT)
        printed, _ = run.communicate(timeout=60)
    assert run.returncode != 0, printed
    until = time.monotonic() + 60
    while not {job["state"] for job in since(before)} <= {"COMPLETED", "CANCELLED"} or processes_of_jobs():
        assert time.monotonic() < until, (jobs(), processes_of_jobs(), printed)
        time.sleep(0.5)
    assert "CANCELLED" in {job["state"] for job in since(before)}
    assert not list((folder / "results/tiny").glob("base/*"))
