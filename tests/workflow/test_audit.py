"""The audit of a suite: passed as it was made, and again when it is asked for again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fake_hub import commit_of
from tests.workflow.audited import REPO, flip_a_prediction, job, keeping_time, provenance_of, run
from tests.workflow.faulty import copied
from tests.workflow.running import rules_of
from twin_merging.io.files import read_json, sha256

pytestmark = pytest.mark.workflow

CHECKS = ["files", "chain", "tables", "predictions", "sources", "statements", "choices", "test rows"]


def test_what_the_workflow_made_passes_every_check(audited: Path) -> None:
    report = read_json(audited / "results/audit/pinned.json")
    assert {check["name"]: (check["verdict"], check["failures"]) for check in report["checks"]} == {
        name: ("passed", []) for name in CHECKS
    }
    assert report["verdict"] == "passed"
    assert "audit of pinned: passed" in (audited / "log").read_text()


def test_the_page_needs_no_other_file_and_escapes_what_it_shows(audited: Path) -> None:
    page = (audited / "results/audit/pinned.html").read_text()
    assert "Two tasks &lt;audited&gt;" in page
    assert "<audited>" not in page
    assert "All checks passed" in page
    assert not any(part in page for part in ("<script", "<link", "src=", "@import"))
    digest = sha256(audited / "results/pinned/models/twin/model.safetensors")
    assert digest in page


def test_every_artefact_stands_with_its_hash_rule_code_seed_and_environment(audited: Path) -> None:
    provenance = provenance_of(audited / "results")
    made = {name: entry for job in provenance["jobs"] for name, entry in job["outputs"].items()}
    for name, entry in made.items():
        assert entry["sha256"] == sha256(audited / name)
        assert entry["size"] == (audited / name).stat().st_size
    kinds = (
        "scores.csv",
        "models/twin/private/one.safetensors",
        "predictions/expert-two.parquet",
        "data/one/test.parquet",
    )
    assert {"results/tables/pinned.csv", *(f"results/pinned/{kind}" for kind in kinds)} <= set(made)
    assert all(len(job["code"]) == 16 for job in provenance["jobs"])
    assert all(job["settings"] for job in provenance["jobs"])
    assert job(provenance, "route/plain")["seed"] == 0
    (environment,) = provenance["environments"]
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=audited, capture_output=True, text=True, check=True)
    assert environment["git"] == {"commit": head.stdout.strip(), "clean": True, "changed": []}
    assert environment["software"]["torch"]
    assert environment["hardware"]["cores"]


def test_what_was_fetched_stands_with_revision_and_hashes(audited: Path) -> None:
    sources = provenance_of(audited / "results")["sources"]
    expert = sources["tasks.two.expert"]
    assert (expert["kind"], expert["pinned"], expert["revision"]) == ("hub", True, commit_of(REPO))
    weights = audited / "inputs/experts/two/model.safetensors"
    assert expert["files"]["model.safetensors"] == {"sha256": sha256(weights), "size": weights.stat().st_size}
    assert sources["tasks.one.data"]["files"]["test.jsonl"]["sha256"] == sha256(audited / "inputs/data/one/test.jsonl")


def test_a_table_does_not_become_stale_by_its_audit(audited: Path) -> None:
    done = run(audited, "results/tables/pinned.csv")
    assert "Nothing to be done" in done.stdout + done.stderr


def test_a_third_party_audits_the_results_folder_alone(audited: Path, tmp_path: Path) -> None:
    results = shutil.copytree(audited / "results", tmp_path / "elsewhere")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "twin_merging", "audit", str(results), "pinned", "--output", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line[:6] for line in done.stdout.splitlines()[: len(CHECKS)]] == ["passed"] * len(CHECKS)
    assert read_json(tmp_path / "out/pinned.json")["verdict"] == "passed"
    assert (tmp_path / "out/pinned.html").is_file()


def test_an_audit_that_is_asked_for_again_sees_a_change_without_a_time_and_says_how_to_mend_it(
    audited: Path, tmp_path: Path
) -> None:
    folder = copied(audited, tmp_path / "run")
    name = "results/pinned/predictions/expert-two.parquet"
    whole = sha256(folder / name)
    keeping_time(flip_a_prediction, folder / name)
    done = run(folder, "results/audit/pinned.html")
    assert done.returncode != 0
    assert rules_of(done) == {"audit": 1}
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert line.startswith("error: audit of pinned: ")
    assert line.endswith("; see results/audit/pinned.html")
    report = read_json(folder / "results/audit/pinned.json")
    assert "files" in report["failed"]
    assert "checks failed" in (folder / "results/audit/pinned.html").read_text()
    assert report["mend"] == f"snakemake --cores all --forcerun {name} -- results/audit/pinned.html"
    refused = run(folder, "--forcerun", "crate", "results/audit/pinned.crate.zip")
    assert refused.returncode != 0
    assert "error: audit of pinned: " in refused.stderr
    done = run(folder, "--forcerun", name, "results/audit/pinned.html")
    assert done.returncode == 0, done.stderr
    assert sha256(folder / name) == whole
    assert read_json(folder / "results/audit/pinned.json")["verdict"] == "passed"
