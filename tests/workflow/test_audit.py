"""The audit of a suite: passed as it was made, each planted fault found and named, and the crate of the run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.fake_hub import FakeHub, commit_of, with_hub
from tests.workflow.running import make_working_folder, rules_of, snakemake
from twin_merging.__main__ import main
from twin_merging.io.files import read_json, sha256, write_json

pytestmark = pytest.mark.workflow

REPO = "someone/two"
SUITE = """
title: Two tasks <audited>
base: {{path: {root}/base}}
tasks:
  one:
    data: {{path: {root}/data/one}}
    text: [sentence]
    labels: 2
    metric: accuracy
    expert: {{path: {root}/experts/one}}
  two:
    data: {{path: {root}/data/two}}
    text: [premise, hypothesis]
    labels: 3
    metric: accuracy
    expert: {{hub: {{repo: {repo}, revision: {revision}}}}}
"""
METHODS = """
router: {shared: plain, epochs: 3, batch_size: 16}
methods:
  plain: {method: task_arithmetic, scaling: 0.29}
  twin: {method: twin, fraction: 0.25}
"""
CHECKS = ["files", "chain", "tables", "predictions", "sources", "statements", "test rows"]


@pytest.fixture(scope="module")
def hub(tiny: Path) -> Iterator[FakeHub]:
    with FakeHub().running() as running:
        running.add(REPO, tiny / "experts" / "two")
        yield running


@pytest.fixture(scope="module")
def folder(tiny: Path, hub: FakeHub, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository in which the suite has run, from its sources to the crate of its audit."""
    folder = make_working_folder(tmp_path_factory.mktemp("run") / "repository")
    (folder / "suites").mkdir()
    text = SUITE.format(root=tiny, repo=REPO, revision=commit_of(REPO)) + METHODS
    (folder / "suites" / "pinned.yaml").write_text(text)
    (folder / ".gitignore").write_text("/results/\n/.snakemake/\n")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "a state"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *command], cwd=folder, check=True)
    made = run(folder, hub, "results/audit/pinned.crate.zip")
    assert made.returncode == 0, made.stderr
    (folder / "log").write_text(made.stderr)
    return folder


def run(folder: Path, hub: FakeHub, *arguments: str) -> subprocess.CompletedProcess[str]:
    options, target = arguments[:-1], arguments[-1]
    return snakemake(
        folder, *options, "--config", "suites=suites", "--", target, environment=with_hub(hub, folder.parent / "home")
    )


def provenance_of(results: Path) -> dict[str, Any]:
    return read_json(results / "pinned" / "provenance.json")


def job(provenance: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (job for job in provenance["jobs"] if job["name"] == name)
    return found


def test_what_the_workflow_made_passes_every_check(folder: Path) -> None:
    report = read_json(folder / "results/audit/pinned.json")
    assert {check["name"]: (check["verdict"], check["failures"]) for check in report["checks"]} == {
        name: ("passed", []) for name in CHECKS
    }
    assert report["verdict"] == "passed"
    assert "audit of pinned: passed" in (folder / "log").read_text()


def test_the_page_needs_no_other_file_and_escapes_what_it_shows(folder: Path) -> None:
    page = (folder / "results/audit/pinned.html").read_text()
    assert "Two tasks &lt;audited&gt;" in page
    assert "<audited>" not in page
    assert "All checks passed" in page
    assert not any(part in page for part in ("<script", "<link", "src=", "@import"))
    digest = sha256(folder / "results/pinned/models/twin/model.safetensors")
    assert digest in page


def test_every_artefact_stands_with_its_hash_rule_code_seed_and_environment(folder: Path) -> None:
    provenance = provenance_of(folder / "results")
    made = {name: entry for job in provenance["jobs"] for name, entry in job["outputs"].items()}
    for name, entry in made.items():
        assert entry["sha256"] == sha256(folder / name)
        assert entry["size"] == (folder / name).stat().st_size
    kinds = (
        "scores.csv",
        "models/twin/private/one.safetensors",
        "predictions/expert-two.parquet",
        "data/one/test.parquet",
    )
    assert {"results/tables/pinned.csv", *(f"results/pinned/{kind}" for kind in kinds)} <= set(made)
    assert all(len(job["code"]) == 16 and job["settings"] for job in provenance["jobs"])
    assert job(provenance, "route/plain")["seed"] == 0
    (environment,) = provenance["environments"]
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)
    assert environment["git"] == {"commit": head.stdout.strip(), "clean": True, "changed": []}
    assert environment["software"]["torch"]
    assert environment["hardware"]["cores"]


def test_what_was_fetched_stands_with_revision_and_hashes(folder: Path, tiny: Path) -> None:
    sources = provenance_of(folder / "results")["sources"]
    expert = sources["tasks.two.expert"]
    assert (expert["kind"], expert["pinned"], expert["revision"]) == ("hub", True, commit_of(REPO))
    weights = tiny / "experts/two/model.safetensors"
    assert expert["files"]["model.safetensors"] == {"sha256": sha256(weights), "size": weights.stat().st_size}
    assert sources["tasks.one.data"]["files"]["test.jsonl"]["sha256"] == sha256(tiny / "data/one/test.jsonl")


def test_a_table_does_not_become_stale_by_its_audit(folder: Path, hub: FakeHub) -> None:
    done = run(folder, hub, "results/tables/pinned.csv")
    assert "Nothing to be done" in done.stdout + done.stderr


def test_a_third_party_audits_the_results_folder_alone(folder: Path, tmp_path: Path) -> None:
    results = shutil.copytree(folder / "results", tmp_path / "elsewhere")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "twin_merging", "audit", str(results), "pinned", "--output", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line[:6] for line in done.stdout.splitlines()[: len(CHECKS)]] == ["passed"] * len(CHECKS)
    assert read_json(tmp_path / "out/pinned.json")["verdict"] == "passed"
    assert (tmp_path / "out/pinned.html").is_file()


def keeping_time(change: Callable[[Path], None], path: Path) -> None:
    """Change a file without a change of its time or size that Snakemake could see."""
    before = path.stat()
    change(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def flip_a_weight(path: Path) -> None:
    """Flip one bit of the last weight in the file."""
    content = bytearray(path.read_bytes())
    content[-2] ^= 0x40
    path.write_bytes(bytes(content))


def last_tensor(path: Path) -> str:
    with open(path, "rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    del header["__metadata__"]
    return max(header, key=lambda name: header[name]["data_offsets"][1])


def flipped_weight(results: Path) -> list[str]:
    path = results / "pinned/models/plain/model.safetensors"
    keeping_time(flip_a_weight, path)
    return ["failed          Files match", "results/pinned/models/plain/model.safetensors", last_tensor(path)]


def edited_score(results: Path) -> list[str]:
    path = results / "pinned/scores.csv"
    lines: Any = pd.read_csv(path)
    lines.loc[(lines["model"] == "twin") & (lines["task"] == "two"), "value"] += 0.01
    lines.to_csv(path, index=False)
    return [
        "failed          Every number",
        "results/pinned/scores.csv: model twin, task two: value",
        "pinned/scores.csv: SHA",
    ]


def edited_cell(results: Path) -> list[str]:
    path = results / "tables/pinned.csv"
    table: Any = pd.read_csv(path).astype({"one": float})
    table.loc[table["model"] == "twin", "one"] += 1
    table.to_csv(path, index=False, float_format="%.4f")
    return ["results/tables/pinned.csv: row twin reference head+bias, column one"]


def flip_a_prediction(path: Path) -> None:
    """Task two, row 7."""
    table: Any = pd.read_parquet(path)
    table.loc[37, "output"] = (table.loc[37, "output"] + 1) % 3
    table.to_parquet(path, index=False)


def edited_prediction(results: Path) -> list[str]:
    flip_a_prediction(results / "pinned/predictions/twin.parquet")
    return ["failed          Predictions follow", "predictions/twin.parquet: task two, row 7: output",
            "predictions/twin.parquet: SHA-256"]  # fmt: skip


def edited_reference(results: Path) -> list[str]:
    path = results / "pinned/predictions/plain.parquet"
    table: Any = pd.read_parquet(path)
    table.loc[3, "reference"] = 1 - table.loc[3, "reference"]
    table.to_parquet(path, index=False)
    return ["predictions/plain.parquet: task one, row 3: reference"]


def stale_exclusive(results: Path) -> list[str]:
    """As if compress had run again and assemble had not."""
    name = "results/pinned/exclusive/plain/one.safetensors"
    path = results / "pinned/exclusive/plain/one.safetensors"
    flip_a_weight(path)
    provenance = provenance_of(results)
    job(provenance, "compress/plain/one")["outputs"][name]["sha256"] = sha256(path)
    write_json(results / "pinned/provenance.json", provenance)
    return ["failed          The chain", f"{name}: assemble/twin read", "stale"]


def exclusive_of_another_run(results: Path) -> list[str]:
    """Put in the place of the one that was assembled."""
    flip_a_weight(results / "pinned/exclusive/plain/two.safetensors")
    return ["exclusive/plain/two.safetensors: SHA-256",
            "exclusive/plain/two.safetensors: what it holds now is not what assemble/twin read"]  # fmt: skip


def lost_record(results: Path) -> list[str]:
    provenance = provenance_of(results)
    provenance["jobs"].remove(job(provenance, "task_vectors/one"))
    write_json(results / "pinned/provenance.json", provenance)
    return ["task_vectors/one.safetensors: merge/plain read it, and no record says what made it"]


def chosen_on_test_rows(results: Path) -> list[str]:
    provenance = provenance_of(results)
    name = "results/pinned/data/one/test.parquet"
    wrote = job(provenance, "fetch_data/one")["outputs"][name]
    job(provenance, "route_features/plain/last")["inputs"][name] = wrote
    write_json(results / "pinned/provenance.json", provenance)
    return ["failed          No test row", f"{name}: route_features/plain/last read it"]


def unpinned_source(results: Path) -> list[str]:
    """As if the suite had named a branch, which was resolved to the same commit."""
    file = results / "pinned/experts/two/source.json"
    record = read_json(file)
    record["source"]["hub"]["revision"] = "main"
    write_json(file, record)
    provenance = provenance_of(results)
    provenance["suite"]["content"]["tasks"]["two"]["expert"]["hub"]["revision"] = "main"
    source = provenance["sources"]["tasks.two.expert"]
    source["source"]["hub"]["revision"] = source["fetched"]["hub"]["revision"] = "main"
    source["pinned"] = False
    made = job(provenance, "fetch_expert/two")["outputs"]["results/pinned/experts/two/source.json"]
    made["sha256"] = sha256(file)
    write_json(results / "pinned/provenance.json", provenance)
    return ["failed          All sources", f"tasks.two.expert: hub {REPO} at revision main is not tied to a commit"]


def missing_model(results: Path) -> list[str]:
    (results / "pinned/models/twin/exclusive/one/adapter_model.safetensors").unlink()
    return ["twin/exclusive/one/adapter_model.safetensors: missing", "predictions/twin.parquet: cannot be recomputed"]


def unstated_protocol(results: Path) -> list[str]:
    provenance = provenance_of(results)
    provenance["models"]["plain"]["protocol"] = "strict"
    write_json(results / "pinned/provenance.json", provenance)
    return ["failed          Protocol", "scores.csv: model plain: protocol reference is not the suite's"]


@pytest.mark.parametrize(
    "plant",
    [flipped_weight, edited_score, edited_cell, edited_prediction, edited_reference, stale_exclusive,
     exclusive_of_another_run, lost_record, unpinned_source, chosen_on_test_rows, missing_model, unstated_protocol],
)  # fmt: skip
def test_a_planted_fault_is_found_and_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], plant: Callable[[Path], list[str]]
) -> None:
    results = shutil.copytree(folder / "results", tmp_path / "results")
    wanted = plant(results)
    assert main(["audit", str(results), "pinned", "--rows", "4"]) == 1
    told = capsys.readouterr().out
    assert "audit of pinned: failed" in told
    assert [part for part in wanted if part not in told] == []


def test_an_audit_that_is_asked_for_again_sees_a_change_without_a_time_and_says_how_to_mend_it(
    folder: Path, hub: FakeHub
) -> None:
    name = "results/pinned/predictions/expert-two.parquet"
    whole = sha256(folder / name)
    keeping_time(flip_a_prediction, folder / name)
    done = run(folder, hub, "results/audit/pinned.html")
    assert done.returncode != 0
    assert rules_of(done) == {"audit": 1}
    assert "see results/audit/pinned.html" in done.stderr.splitlines()[-1]
    report = read_json(folder / "results/audit/pinned.json")
    assert "files" in report["failed"]
    assert "checks failed" in (folder / "results/audit/pinned.html").read_text()
    assert report["mend"] == f"snakemake --cores all --forcerun {name} -- results/audit/pinned.html"
    done = run(folder, hub, "--forcerun", name, "results/audit/pinned.html")
    assert done.returncode == 0, done.stderr
    assert sha256(folder / name) == whole
    assert read_json(folder / "results/audit/pinned.json")["verdict"] == "passed"


@pytest.fixture(scope="module")
def crate(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The crate, unpacked."""
    place = tmp_path_factory.mktemp("crate")
    with zipfile.ZipFile(folder / "results/audit/pinned.crate.zip") as archive:
        archive.extractall(place)
    return place


def test_the_crate_says_what_ran_on_what_and_what_came_of_it(crate: Path, folder: Path) -> None:
    graph = {entity["@id"]: entity for entity in read_json(crate / "ro-crate-metadata.json")["@graph"]}
    root, action = graph["./"], graph["#run"]
    assert {entry["@id"] for entry in root["conformsTo"]} >= {
        "https://w3id.org/ro/wfrun/process/0.5",
        "https://w3id.org/ro/wfrun/workflow/0.5",
        "https://w3id.org/workflowhub/workflow-ro-crate/1.0",
    }
    assert root["mainEntity"] == action["instrument"] == {"@id": "workflow/Snakefile"}
    assert root["mentions"] == {"@id": "#run"}
    assert "ComputationalWorkflow" in graph["workflow/Snakefile"]["@type"]
    read = [graph[entry["@id"]] for entry in action["object"]]
    made = [graph[entry["@id"]] for entry in action["result"]]
    weights = f"https://huggingface.co/{REPO}/resolve/{commit_of(REPO)}/model.safetensors"
    assert {"config/suites/pinned.yaml", weights} <= {entity["@id"] for entity in read}
    model = sha256(folder / "results/pinned/models/twin/model.safetensors")
    assert model in {entity["sha256"] for entity in made}
    assert {"results/tables/pinned.csv", "results/audit/pinned.html", "results/pinned/predictions/twin.parquet"} <= {
        entity["@id"] for entity in made
    }
    assert action["startTime"] < action["endTime"]


def test_every_file_of_the_crate_is_described_with_its_hash_and_the_other_way_round(crate: Path) -> None:
    graph = {entity["@id"]: entity for entity in read_json(crate / "ro-crate-metadata.json")["@graph"]}
    files = {path.relative_to(crate).as_posix() for path in crate.rglob("*") if path.is_file()}
    parts = {part["@id"] for part in graph["./"]["hasPart"]}
    assert files - {"ro-crate-metadata.json"} == {part for part in parts if ":" not in part}
    for name in files & parts - {"workflow/Snakefile"}:
        assert graph[name]["sha256"] == sha256(crate / name)
        assert graph[name]["contentSize"] == str((crate / name).stat().st_size)
    assert not [name for name in files if name.endswith((".safetensors", ".pyc")) or "/data/" in name]
    assert "src/twin_merging/auditing/crate.py" in files


def test_the_crate_is_valid_by_its_profiles_validator(folder: Path) -> None:
    """Runs where roc-validator's command is on the path; ROCRATE_VALIDATOR_OPTIONS may say --offline --cache-path."""
    validator = shutil.which("rocrate-validator")
    if validator is None:
        pytest.skip("rocrate-validator is not on the path")
    options = os.environ.get("ROCRATE_VALIDATOR_OPTIONS", "").split()
    for profile in ("process-run-crate", "workflow-run-crate"):
        command = [validator, "--no-interactive", "validate", "--no-paging", "-p", profile, *options]
        done = subprocess.run([*command, str(folder / "results/audit/pinned.crate.zip")],
                              capture_output=True, text=True, check=False)  # fmt: skip
        assert done.returncode == 0, done.stdout
