"""The crate of an audited run: its results and what they came of, as a Workflow Run RO-Crate."""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.fake_hub import commit_of
from tests.workflow.audited import REPO
from twin_merging.io.files import read_json, sha256

pytestmark = pytest.mark.workflow


@pytest.fixture(scope="module")
def crate(audited: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The crate, unpacked."""
    place = tmp_path_factory.mktemp("crate")
    with zipfile.ZipFile(audited / "results/audit/pinned.crate.zip") as archive:
        archive.extractall(place)
    return place


def test_the_crate_says_what_ran_on_what_and_what_came_of_it(crate: Path, audited: Path) -> None:
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
    model = sha256(audited / "results/pinned/models/twin/model.safetensors")
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


def test_the_crate_is_valid_by_its_profiles_validator(audited: Path) -> None:
    """Runs where roc-validator's command is on the path; ROCRATE_VALIDATOR_OPTIONS may say --offline --cache-path."""
    validator = shutil.which("rocrate-validator")
    if validator is None:
        pytest.skip("rocrate-validator is not on the path")
    options = os.environ.get("ROCRATE_VALIDATOR_OPTIONS", "").split()
    for profile in ("process-run-crate", "workflow-run-crate"):
        command = [validator, "--no-interactive", "validate", "--no-paging", "-p", profile, *options]
        done = subprocess.run([*command, str(audited / "results/audit/pinned.crate.zip")],
                              capture_output=True, text=True, check=False)  # fmt: skip
        assert done.returncode == 0, done.stdout
