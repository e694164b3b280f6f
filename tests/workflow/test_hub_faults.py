"""A fault of a Hub of each kind, met by real jobs: exit code, message, nothing left behind, and a second run that
completes. tests/unit/test_hub_faults.py has every fault, without jobs."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.fake_hub import FakeHub, with_hub
from tests.workflow.running import make_working_folder, snakemake

pytestmark = pytest.mark.workflow

PASSING: dict[str, tuple[Any, ...]] = {
    "reset-once": ("GET {}/resolve", "reset", None),
    "damaged-once": ("GET {}/resolve", "corrupt", None),
    "down-once": ("/api/models/{}/revision", "status", 503),
}
LASTING: dict[str, tuple[Any, ...]] = {
    "reset": ("GET {}/resolve", "reset", None, "the connection to the Hub broke off"),
    "stall": ("GET {}/resolve", "stall", None, "the Hub does not answer in time"),
    "damaged": ("GET {}/resolve", "corrupt", None, "but the Hub states"),
    "busy": ("GET {}/resolve", "status", (429, {"Retry-After": "1"}), "HTTP 429"),
    "down": ("/api/models/{}/revision", "status", 503, "HTTP 503"),
    "gated": ("{}/resolve", "status", (403, {"X-Error-Code": "GatedRepo"}), "ask for it"),
    "no-file": ("GET {}/resolve", "missing", None, "the Hub lists a file that it does not have"),
}
ONE_FILE = ("model.safetensors", "config.json", "source.json")


@dataclass
class Runs:
    folder: Path
    hub: FakeHub
    tiny: Path
    environment: dict[str, str]
    left: set[str] = field(default_factory=set)  # files after the run with faults
    first: subprocess.CompletedProcess[str] | None = None
    second: subprocess.CompletedProcess[str] | None = None

    def run(self, *tasks: str, **more: str) -> subprocess.CompletedProcess[str]:
        targets = [f"results/faulty/experts/{task}/model.safetensors" for task in tasks]
        config = ["--keep-going", "--config", f"suites={self.folder}/suites", "--"]
        return snakemake(self.folder, *config, *targets, environment={**self.environment, **more})


@pytest.fixture(scope="module")
def faulty(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """A working folder, a Hub, and a suite with a task a fault, each of whose experts has a repository of its own."""
    root = tmp_path_factory.mktemp("faults")
    folder = make_working_folder(root / "run")
    hub = FakeHub()
    lines = []
    for task in [*PASSING, *LASTING, "refused", "killed", "full"]:
        repository = root / "repositories" / task
        shutil.copytree(tiny / "experts" / "one", repository)
        hub.add(f"own/{task}", repository)
        lines.append(f"  {task}: {{data: {{path: {tiny}/data/one}}, labels: 2, metric: accuracy, "
                     f"expert: {{hub: {{repo: own/{task}}}}}}}")  # fmt: skip
    (folder / "suites").mkdir()
    (folder / "suites/faulty.yaml").write_text(
        f"title: Faults\nbase: {{path: {tiny}/base}}\ntasks:\n" + "\n".join(lines)
        + "\nmethods: {mean: {method: weight_average}}\n"
    )  # fmt: skip
    with hub.running():
        environment = {**with_hub(hub, root / "home"), "HF_HUB_DOWNLOAD_TIMEOUT": "1"}
        yield Runs(folder, hub, tiny, {**environment, "TWIN_MERGING_FETCH_ATTEMPTS": "2"})


@pytest.fixture(scope="module")
def runs(faulty: Runs) -> Runs:
    """One run with every fault, and one without."""
    for task, (part, kind, value, *_) in {**PASSING, **LASTING}.items():
        place = f"own/{task}" if part.startswith("/api") else f"/own/{task}"
        faulty.hub.fault(part.format(place), kind, 1 if task in PASSING else 10**6, value)
    faulty.first = faulty.run(*PASSING, *LASTING)
    faulty.left = {str(path.relative_to(faulty.folder)) for path in faulty.folder.glob("results/faulty/experts/*/*")}
    faulty.hub.faults.clear()
    faulty.second = faulty.run(*PASSING, *LASTING)
    return faulty


def whole(faulty: Runs, task: str) -> bool:
    """Whether the expert is there, as the repository has it."""
    folder = faulty.folder / "results/faulty/experts" / task
    other = faulty.folder / "results/faulty/experts" / next(iter(PASSING))
    return (folder / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()


@pytest.mark.parametrize("task", PASSING)
def test_a_fault_that_passes_is_overcome(runs: Runs, task: str) -> None:
    assert {f"results/faulty/experts/{task}/{name}" for name in ONE_FILE} <= runs.left
    assert whole(runs, task)


@pytest.mark.parametrize("task", LASTING)
def test_a_fault_that_stays_fails_its_job_with_one_line_and_leaves_nothing(runs: Runs, task: str) -> None:
    assert runs.first is not None
    assert runs.first.returncode == 1
    (line,) = [
        line for line in runs.first.stderr.splitlines() if re.match(rf"error: own/{task} at revision main:", line)
    ]
    assert LASTING[task][3] in line
    assert not [path for path in runs.left if f"experts/{task}/" in path]


@pytest.mark.parametrize("task", LASTING)
def test_a_second_run_completes(runs: Runs, task: str) -> None:
    assert runs.second is not None
    assert runs.second.returncode == 0, runs.second.stderr
    assert whole(runs, task)


def test_a_refused_connection_names_the_endpoint_and_a_second_run_completes(runs: Runs) -> None:
    run = runs.run("refused", HF_ENDPOINT="http://127.0.0.1:9")
    assert run.returncode == 1
    assert "error: own/refused at revision main: no connection to the Hub" in run.stderr
    assert "HF_ENDPOINT (http://127.0.0.1:9)" in run.stderr
    assert not list(runs.folder.glob("results/faulty/experts/refused/*"))
    assert runs.run("refused").returncode == 0
    assert whole(runs, "refused")


def test_a_run_that_is_killed_during_a_download_leaves_nothing_whole_and_a_second_one_completes(runs: Runs) -> None:
    part = "GET /own/killed/resolve"
    runs.hub.fault(part, "stall")
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--config", f"suites={runs.folder}/suites", "--",
               "results/faulty/experts/killed/model.safetensors"]  # fmt: skip
    environment = {**os.environ, **runs.environment, "HF_HUB_DOWNLOAD_TIMEOUT": "100"}
    process = subprocess.Popen(
        command, cwd=runs.folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not any(part in line for line in runs.hub.requests) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert any(part in line for line in runs.hub.requests)
    blobs = Path(runs.environment["HF_HOME"], "hub/models--own--killed/blobs")
    assert all(path.name.endswith(".incomplete") for path in blobs.iterdir())
    assert not list(runs.folder.glob("results/faulty/experts/killed/*"))
    runs.hub.faults.clear()
    assert snakemake(runs.folder, "--unlock", "--config", f"suites={runs.folder}/suites").returncode == 0
    assert runs.run("killed").returncode == 0
    assert whole(runs, "killed")


def test_a_disk_without_room_is_said_before_the_download_and_a_second_run_completes(runs: Runs, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("only root can mount a small disk")
    try:
        run = runs.run("full", HF_HOME=str(disk / "home"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert run.returncode == 1
    assert "error: own/full at revision main:" in run.stderr
    assert "MB are free there" in run.stderr
    assert not list(runs.folder.glob("results/faulty/experts/full/*"))
    assert runs.run("full").returncode == 0
    assert whole(runs, "full")
