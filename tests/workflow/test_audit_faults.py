"""A fault that is planted in results is found by their audit and named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.workflow.audited import REPO, flip_a_prediction, job, keeping_time, provenance_of
from twin_merging.__main__ import main
from twin_merging.io.files import read_json, sha256, write_json

pytestmark = pytest.mark.workflow


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


def edited_intervals(results: Path) -> list[str]:
    """And what is written of them in LaTeX, and a count of bytes."""
    for name, old, new in (
        ("pinned/intervals.csv", "normalised,twin,one,", "normalised,twin,one,1"),
        ("tables/pinned.tex", "twin & reference & head+bias & $", "twin & reference & head+bias & $1"),
        ("tables/pinned-storage.csv", "twin,dynamic,", "twin,dynamic,1"),
    ):
        path = results / name
        text = path.read_text()
        assert text.count(old) == 1, text
        path.write_text(text.replace(old, new))
    return [
        "results/pinned/intervals.csv: row normalised twin one, column value",
        "results/tables/pinned.tex: line ",
        "results/tables/pinned-storage.csv: row twin, column rank",
    ]


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


def edited_choice(results: Path) -> list[str]:
    """As if the job had chosen so: its record has the hash of what is written."""
    path = results / "pinned/choices/plain.json"
    chosen = read_json(path)
    best, other = (
        chosen["chosen"],
        *(one["values"] for one in chosen["candidates"] if one["values"] != chosen["chosen"]),
    )
    write_json(path, {**chosen, "chosen": other})
    provenance = provenance_of(results)
    job(provenance, "choose/plain")["outputs"]["results/pinned/choices/plain.json"]["sha256"] = sha256(path)
    write_json(results / "pinned/provenance.json", provenance)
    return [
        "failed          Options were",
        f"choices/plain.json: chose {other}, but {best} is the best of what was tried",
        f"models/plain/merge.json: merged with scaling {best['scaling']}, but {other['scaling']} was chosen",
    ]


def choice_that_read_test_rows(results: Path) -> list[str]:
    provenance = provenance_of(results)
    name = "results/pinned/data/two/test.parquet"
    job(provenance, "choose/plain")["inputs"][name] = job(provenance, "fetch_data/two")["outputs"][name]
    write_json(results / "pinned/provenance.json", provenance)
    return [f"{name}: choose/plain read it, and the choice results/pinned/choices/plain.json rests on that job",
            f"{name}: choose/plain read it, and a model rests on that job"]  # fmt: skip


def edited_candidate(results: Path) -> list[str]:
    path = results / "pinned/choices/plain.json"
    chosen = read_json(path)
    chosen["candidates"][1]["average"] += 1
    write_json(path, {**chosen, "experts": {**chosen["experts"], "one": 0.99}})
    return ["is written, its scores give", "expert one scores 0.99 here, but", "choices/plain.json: SHA-256"]


@pytest.mark.parametrize(
    "plant",
    [flipped_weight, edited_score, edited_cell, edited_intervals, edited_prediction, edited_reference, stale_exclusive,
     exclusive_of_another_run, lost_record, unpinned_source, chosen_on_test_rows, missing_model, unstated_protocol,
     edited_choice, choice_that_read_test_rows, edited_candidate],
)  # fmt: skip
def test_a_planted_fault_is_found_and_named(
    audited: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], plant: Callable[[Path], list[str]]
) -> None:
    results = shutil.copytree(audited / "results", tmp_path / "results")
    wanted = plant(results)
    assert main(["audit", str(results), "pinned", "--rows", "4"]) == 1
    told = capsys.readouterr().out
    assert "audit of pinned: failed" in told
    assert [part for part in wanted if part not in told] == []
