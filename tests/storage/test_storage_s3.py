"""Results in a bucket, jobs on machines that share no disk: the same bytes, nothing done twice, nothing wrong left."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.storage.far import Far, make_folder
from tests.storage.machines import can_hide
from tests.storage.server import s3_server
from tests.workflow.running import jobs_of, rules_of, snakemake

pytestmark = [pytest.mark.workflow, pytest.mark.s3]

ALL = ("results/tables/far.csv", "results/far/index.html", "results/far/models/twin/README.md",
       "results/audit/far.json", "results/audit/far.crate.zip")  # fmt: skip
# What holds times, or the hashes of what holds them.
TIMES = (r"results/far/(logs|benchmarks|records)/.*|results/far/runs/.*|results/far/(provenance\.json|index\.html)"
         r"|results/tables/far-cost\.(csv|md)|results/audit/.*")  # fmt: skip
# Of a record, what tells of time and of other records.
MEASURED = {"started", "finished", "peak_mib", "inputs", "outputs"}
OF_TIMES = {"cost", "page", "provenance", "snapshot", "crate"}


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    """All of a suite has been made far away."""
    root = tmp_path_factory.mktemp("far")
    with s3_server(root / "server.log") as server:
        run = Far(make_folder(root / "here"), server)
        done = run.snakemake("--", *ALL)
        assert done.returncode == 0, done.stdout + done.stderr + run.outputs()
        yield run


@pytest.fixture(scope="module")
def near(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """And here."""
    folder = make_folder(tmp_path_factory.mktemp("near") / "here")
    done = snakemake(folder, "--", *ALL)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def results_of(folder: Path) -> dict[str, Path]:
    files = {path.relative_to(folder).as_posix(): path for path in (folder / "results").rglob("*") if path.is_file()}
    return {name: path for name, path in files.items() if is_compared(name) and ".store/" not in name}


def is_compared(name: str) -> bool:
    return not name.endswith(".snakemake_timestamp")


def test_the_bucket_holds_what_a_folder_holds_and_the_same_bytes(far: Far, near: Path) -> None:
    local = results_of(near)
    names = {name for name in far.bucket.names("results/") if is_compared(name)}
    kept_here = {name for name in local if re.match(r"results/far/runs/\d", name)}
    assert names == set(local) - kept_here
    differ = [name for name in sorted(names) if far.bucket.read(name) != local[name].read_bytes()]
    assert [name for name in differ if not re.fullmatch(TIMES, name)] == []
    assert len(names) - len(differ) > 60
    assert far.bucket.names() == far.bucket.names("results/")  # the archive of the workflow is gone


def test_records_say_the_same_but_for_times(far: Far, near: Path) -> None:
    names = far.bucket.names("results/far/records/")
    assert len(names) > 30
    for name in names:
        ours, theirs = far.json(name), _json(near / name)
        for record, folder in ((ours, far.folder), (theirs, near)):
            if name.endswith("/crate.json"):  # the folder that the crate packs
                assert record["settings"].pop("workflow") == str(folder)
        assert _without(ours, MEASURED) == _without(theirs, MEASURED), name
        for side in ("inputs", "outputs"):
            assert list(ours[side]) == list(theirs[side]), name
            if name.split("/")[3].removesuffix(".json") not in OF_TIMES:
                assert ours[side] == theirs[side], name


def test_nothing_names_a_copy(far: Far) -> None:
    for name in far.bucket.names():
        content = far.bucket.read(name)
        for trace in (b".snakemake/storage", b"s3://", str(far.machines).encode(), str(far.folder).encode()):
            packs = name.startswith("results/audit/far.crate") or name == "results/far/records/crate.json"
            assert trace not in content or packs, (name, trace)  # a crate, and its record, name the workflow's folder


def test_the_audit_passed(far: Far) -> None:
    report = far.json("results/audit/far.json")
    assert {check["name"]: check["verdict"] for check in report["checks"] if check["verdict"] == "failed"} == {}
    assert report["verdict"] == "passed"
    assert report["provenance"] == hashlib.sha256(far.bucket.read("results/far/provenance.json")).hexdigest()


def test_a_job_had_only_what_snakemake_put_there(far: Far) -> None:
    machines = list(far.machines.iterdir())
    assert len(machines) > 6
    sent = {"Snakefile", "workflow", "config", "environment.yml", "environment-lm-eval.yml", ".snakemake"}
    for machine in machines:
        assert {path.name for path in (machine / "work").iterdir()} <= sent | {"results"}
        copies = [path for path in (machine / "work/.snakemake/storage").rglob("*") if path.is_file()]
        assert not [path for path in copies if "results" in path.parts and path.suffix in (".safetensors", ".parquet")]
    if can_hide():
        assert not any(str(far.folder) in (machine / "output").read_text() for machine in machines)


def test_a_second_run_does_nothing(far: Far) -> None:
    done = far.snakemake("--", *ALL[:3])
    assert done.returncode == 0, done.stderr
    assert jobs_of(done) == {("page", "")}  # which shows the audit now
    again = far.snakemake("-n", "--", *ALL[:3])
    assert "Nothing to be done" in again.stdout + again.stderr


def test_a_change_makes_the_same_jobs_stale_as_here(far: Far, near: Path) -> None:
    for folder in (far.folder, near):
        suite = folder / "config/suites/far.yaml"
        suite.write_text(suite.read_text().replace("fraction: 0.25", "fraction: 0.5"))
    ours, theirs = far.snakemake("-n", "--", ALL[0]), snakemake(near, "-n", "--", ALL[0])
    assert rules_of(ours) == rules_of(theirs)
    assert rules_of(ours)["assemble"] == rules_of(ours)["predict"] == 1
    assert not set(rules_of(ours)) & {"fetch_base", "finetune", "merge", "route"}


def test_a_killed_run_goes_on(far: Far, near: Path) -> None:
    """Snakemake is killed while a job runs elsewhere. The next call takes that job up, and does the others."""
    target = "results/far/predictions/twin.parquet"
    began = len(list(far.machines.iterdir()))
    process = subprocess.Popen(
        far.command("--", target, grouped=False), cwd=far.folder, env=far.environment(),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    until = time.monotonic() + 120
    while len(list(far.machines.glob("*/process"))) == began and time.monotonic() < until:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert far.snakemake("--unlock", grouped=False).returncode == 0
    done = far.snakemake("--", target, grouped=False)
    assert done.returncode == 0, done.stdout + done.stderr + far.outputs()
    assert snakemake(near, "--", target).returncode == 0
    assert far.bucket.read(target) == (near / target).read_bytes()


def test_a_wrong_input_leaves_no_output_and_a_sentence_that_names_the_file(far: Far) -> None:
    wrong, models = "results/far/task_vectors/one.safetensors", "results/far/models/sum/"
    before = far.bucket.read(wrong)
    far.bucket.write(wrong, before[: len(before) // 2])
    done = far.snakemake("--", f"{models}merge.json", grouped=False)
    assert done.returncode == 1
    assert far.bucket.names(models) == []
    assert far.bucket.names("results/far/records/merge/") == []
    log = far.bucket.read("results/far/logs/merge/sum.log").decode()
    assert re.search(rf"^error: .*{re.escape(wrong)}", log, flags=re.M), log


def _json(file: Path) -> Any:
    return json.loads(file.read_text())


def _without(content: dict[str, Any], keys: set[str]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key not in keys}
