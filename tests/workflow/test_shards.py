"""Predictions that several jobs share out, and the GPUs that jobs of one machine share."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from pathlib import Path

import pytest

from tests.workflow.conftest import targets
from tests.workflow.faulty import copied
from tests.workflow.running import jobs_of, rules_of, snakemake
from twin_merging.io.files import read_json, sha256

pytestmark = pytest.mark.workflow

MODELS = ("pretrained", "expert-one", "emr", "twin")
PREDICTIONS = [f"results/mine/predictions/{model}.parquet" for model in MODELS]
SHARDS = ("--config", "shards=3")
# Five jobs that ask for a GPU each. The first four wait for one another, so that they must run at the same time.
SNAKEFILE = """
import os, sys
from twin_merging.jobs.client import use_server
from twin_merging.jobs.watch import STARTED_BY

os.environ[STARTED_BY] = str(os.getpid())
use_server(workflow.is_main_process)

rule all:
    input: expand("out/{number}.json", number=range(5))

rule work:
    output: "out/{number}.json"
    log: "logs/{number}.log"
    priority: lambda w: 0 if w.number == "4" else 1
    resources: gpu=1
    params: settings={}, code="0"
    script: "work.py"
"""
SCRIPT = """
import json, os, time
from pathlib import Path
from twin_merging.jobs.run import run_job

def main(job):
    began = time.time()
    Path("begun").mkdir(exist_ok=True)
    Path("begun", job.wildcards.number).touch()
    until = began + 60
    while len(list(Path("begun").iterdir())) < 4 and time.time() < until:
        time.sleep(0.05)
    found = {"device": os.environ["CUDA_VISIBLE_DEVICES"], "process": os.getpid(), "began": began, "ended": time.time()}
    Path(job.output[0]).write_text(json.dumps(found))

run_job(snakemake, main)
"""


def without_predictions(folder: Path) -> None:
    for model, file in zip(MODELS, PREDICTIONS, strict=True):
        (folder / file).unlink()
        (folder / f"results/mine/records/predict/{model}.json").unlink()


def test_shared_out_predictions_are_the_same_file_and_no_count_makes_them_stale(finished: Path, tmp_path: Path) -> None:
    folder = copied(finished, tmp_path / "run")
    assert jobs_of(snakemake(folder, "-n", *SHARDS, "--", *targets("mine"))) == set()

    without_predictions(folder)
    run = snakemake(folder, *SHARDS, "store=off", "--", *PREDICTIONS, cores=2)
    assert run.returncode == 0, run.stderr
    assert rules_of(run) == {"predict": len(MODELS), "predict_shard": 3 * len(MODELS)}
    assert [sha256(folder / file) for file in PREDICTIONS] == [sha256(finished / file) for file in PREDICTIONS]
    assert [*(folder / "results/mine").glob("predictions/*/*")] == []
    assert [*(folder / "results/mine").glob("records/predict_shard/*/*")] == []
    assert [*(folder / "results/mine").glob("checkpoints/*")] == []
    record, before = (read_json(place / "results/mine/records/predict/twin.json") for place in (folder, finished))
    assert len(record.pop("shards")) == 3
    assert {name: record[name] for name in ("inputs", "input", "output", "settings", "code")} == {
        name: before[name] for name in ("inputs", "input", "output", "settings", "code")
    }
    for more in (SHARDS, ("--config", "shards=2"), ()):
        assert jobs_of(snakemake(folder, "-n", *more, "--", *PREDICTIONS)) == set()


def test_shards_leave_to_a_store_what_it_has(finished: Path, tmp_path: Path) -> None:
    folder = copied(finished, tmp_path / "run")
    without_predictions(folder)
    run = snakemake(folder, *SHARDS, "--", PREDICTIONS[-1])
    assert run.returncode == 0, run.stderr
    assert sha256(folder / PREDICTIONS[-1]) == sha256(finished / PREDICTIONS[-1])
    logs = [file.read_text() for file in (folder / "results/mine/logs/predict_shard/twin").iterdir()]
    assert ["left undone" in log for log in logs] == [True] * 3
    assert "taken" in read_json(folder / "results/mine/records/predict/twin.json")

    (folder / PREDICTIONS[-1]).unlink()  # what shards left to a store that then lost it is answered by the last job
    run = snakemake(folder, *SHARDS, "--notemp", "--until", "predict_shard", "--", PREDICTIONS[-1])
    assert run.returncode == 0, run.stderr
    shutil.rmtree(folder / "results/.store")
    run = snakemake(folder, *SHARDS, "--", PREDICTIONS[-1])
    assert run.returncode == 0, run.stderr
    assert rules_of(run) == {"predict": 1}
    assert sha256(folder / PREDICTIONS[-1]) == sha256(finished / PREDICTIONS[-1])


def test_four_jobs_of_a_machine_work_on_four_gpus_at_once(tmp_path: Path) -> None:
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "work.py").write_text(SCRIPT)
    known = [f"GPU-{uuid.uuid4()}" for _ in range(4)]
    environment = {"CUDA_VISIBLE_DEVICES": ",".join(known)}
    run = snakemake(tmp_path, "--resources", "gpu=4", environment={**os.environ, **environment}, cores=8)
    assert run.returncode == 0, run.stderr
    *four, fifth = (json.loads((tmp_path / f"out/{number}.json").read_text()) for number in range(5))
    assert sorted(job["device"] for job in four) == sorted(known)
    assert max(job["began"] for job in four) < min(job["ended"] for job in four)
    assert fifth["device"] in known
    assert fifth["began"] > min(job["ended"] for job in four), "Snakemake starts no more than it has GPUs for"
