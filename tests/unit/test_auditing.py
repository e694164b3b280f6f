"""Records of jobs, and the provenance that is gathered from them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from snakemake.iocontainers import InputFiles, OutputFiles, Params, Wildcards

from twin_merging.auditing.audit import audit, mending, notes, write_report
from twin_merging.auditing.crate import write_crate
from twin_merging.auditing.provenance import chain, sources
from twin_merging.auditing.report import plain
from twin_merging.auditing.results import Results
from twin_merging.auditing.source_checks import check_sources
from twin_merging.errors import UserError
from twin_merging.io.files import sha256, write_json
from twin_merging.io.sizes import human_bytes
from twin_merging.jobs import records
from twin_merging.jobs.machine import commit

COMMIT = "a" * 40
RECORD = "results/mine/records/merge/ties.json"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def a_job(inputs: dict[str, Any], outputs: dict[str, Any], record: str | None = RECORD) -> Any:
    """What Snakemake gives a script."""
    declared = {**outputs, **({"record": record} if record else {})}
    return SimpleNamespace(
        rule="theirs_merge", threads=2, scriptdir=".", wildcards=Wildcards(fromdict={"suite": "mine"}),
        input=InputFiles(fromdict=inputs), output=OutputFiles(fromdict=declared),
        params=Params(fromdict={"settings": {"entry": {"seed": 3}}, "code": "0123456789abcdef"}),
    )  # fmt: skip


def written(path: str, content: str) -> str:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(content)
    return path


def test_a_record_is_an_output_and_holds_every_other_file_with_its_hash() -> None:
    source = written("results/mine/base/config.json", "{}")
    written("results/mine/models/ties/private/one.txt", "1")
    written("results/mine/models/ties/private/.snakemake_timestamp", "")
    records.write_record(a_job({"base": source}, {"private": "results/mine/models/ties/private"}), records.now())
    record = records.read_record(Path(RECORD))
    assert record["inputs"] == {source: {"sha256": sha256(Path(source)), "size": 2}}
    assert list(record["outputs"]) == ["results/mine/models/ties/private/one.txt"]
    assert record["output"] == {"private": ["results/mine/models/ties/private"]}
    assert record["rule"] == "merge", "however another workflow names it"
    assert record["git"] == {"commit": None, "clean": None, "changed": None}
    assert record["software"]["python"]


def test_a_job_whose_rule_declares_no_record_leaves_none() -> None:
    records.write_record(a_job({}, {"text": written("results/out.txt", "1")}, record=None), records.now())
    assert [str(path) for path in Path("results").rglob("*") if path.is_file()] == ["results/out.txt"]


def test_a_record_says_what_lay_there_and_not_what_another_job_says(tmp_path: Path) -> None:
    source = Path(written("results/mine/base/config.json", "{}"))
    time = source.stat()
    maker, reader = ("results/mine/records/fetch_base.json", RECORD)
    records.write_record(a_job({}, {"config": str(source)}, maker), records.now())
    source.write_text("[]")
    os.utime(source, ns=(time.st_atime_ns, time.st_mtime_ns))
    records.write_record(a_job({"base": str(source)}, {}, reader), records.now())
    wrote, read = records.read_record(Path(maker))["outputs"], records.read_record(Path(reader))["inputs"]
    assert wrote[str(source)]["sha256"] != read[str(source)]["sha256"] == sha256(source)


@pytest.mark.parametrize("content", ["", "[]", '{"inputs": {}}', '{"inputs": {}, "outputs": []}'])
def test_what_is_no_record_is_one_sentence(content: str) -> None:
    with pytest.raises(UserError, match=f"{RECORD}: not a record of a job; make it again: snakemake .*--forcerun"):
        records.read_record(Path(written(RECORD, content)))


def test_a_job_is_named_by_the_place_of_its_record() -> None:
    assert records.record_name("results/mine/records/compress/plain/one.json") == "compress/plain/one"
    assert records.record_name("results/mine/records/score.json") == "score"


def test_a_changed_tensor_is_known_by_its_checksum(tmp_path: Path) -> None:
    tensors = {"a": torch.zeros(3), "b": torch.ones(2, 2)}
    save_file(tensors, tmp_path / "one.safetensors")
    save_file({**tensors, "b": torch.eye(2)}, tmp_path / "two.safetensors")
    one, two = (records.tensor_checksums(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
    assert one["a"] == two["a"]
    assert one["b"] != two["b"]
    whole = (tmp_path / "one.safetensors").read_bytes()
    (tmp_path / "one.safetensors").write_bytes(whole[:-4])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        records.tensor_checksums(tmp_path / "one.safetensors")


def test_a_commit_says_whether_the_tree_is_clean(tmp_path: Path) -> None:
    written("code.py", "1")
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "a"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *command], cwd=tmp_path, check=True)
    assert commit(tmp_path)["clean"] is True
    written("more.py", "1")
    assert {key: commit(tmp_path)[key] for key in ("clean", "changed")} == {"clean": False, "changed": ["more.py"]}


def a_record(inputs: list[str], outputs: list[str]) -> dict[str, Any]:
    return {"inputs": dict.fromkeys(inputs), "outputs": dict.fromkeys(outputs)}


def test_a_chain_holds_what_the_tables_rest_on_sources_first_and_nothing_else() -> None:
    found = {
        "tabulate": a_record(["scores"], ["table"]),
        "score": a_record(["a", "b"], ["scores"]),
        "predict/a": a_record(["model-a", "data"], ["a"]),
        "predict/b": a_record(["base", "data"], ["b"]),
        "merge/a": a_record(["base"], ["model-a"]),
        "fetch": a_record([], ["base", "data"]),
        "predict/removed": a_record(["base", "data"], ["removed"]),
    }
    names = chain(found, ["table"])
    assert sorted(names) == sorted(set(found) - {"predict/removed"})
    for line in (("fetch", "merge/a", "predict/a", "score", "tabulate"), ("fetch", "predict/b", "score")):
        assert sorted(line, key=names.index) == list(line)
    assert names == chain(dict(reversed(found.items())), ["table"])


def content(expert: dict[str, Any]) -> dict[str, Any]:
    task = {"data": {"generate": {}}, "expert": expert, "text": ["sentence"]}
    whole = {"title": "t", "seed": 0, "limits": {"test": 9}, "base": {"path": "models/base"}, "methods": {}}
    return {**whole, "tasks": {"one": task}}


def results_with(expert: dict[str, Any], record: dict[str, Any], jobs: list[dict[str, Any]] | None = None) -> Results:
    """Results of a suite with that expert, of which only source.json files lie there."""
    folder = Path("results/mine")
    write_json(folder / "base/source.json", {"source": {"path": "models/base"}, "revision": None,
                                             "files": {"config.json": {"sha256": "0" * 64, "size": 2}}})  # fmt: skip
    write_json(folder / "experts/one/source.json", record)
    suite: dict[str, Any] = {"name": "mine", "file": "mine.yaml", "content": content(expert)}
    write_json(folder / "provenance.json", {
        "format": 1, "suite": suite, "models": {}, "rows": {}, "tables": [], "jobs": jobs or [],
        "sources": sources(suite["content"], folder), "environments": [],
    })  # fmt: skip
    return Results(Path("results"), "mine")


def hub(revision: str) -> dict[str, Any]:
    return {"hub": {"repo": "a/b", "revision": revision}}


FILES = {"model.safetensors": {"sha256": "0" * 64, "size": 2}}


@pytest.mark.parametrize(
    ("expert", "record", "wanted"),
    [
        (hub(COMMIT), {"source": hub(COMMIT), "revision": COMMIT, "files": FILES}, None),
        (hub("main"), {"source": hub("main"), "revision": COMMIT, "files": FILES},
         f"tasks.one.expert: hub a/b at revision main is not tied to a commit (it was {COMMIT}); run: snakemake lock"),
        (hub(COMMIT), {"source": hub(COMMIT), "revision": "b" * 40, "files": FILES}, f"what was fetched is {'b' * 40}"),
        (hub(COMMIT), {"source": hub(COMMIT), "revision": COMMIT, "files": {}}, "no hash of a fetched file"),
        (hub(COMMIT), {"source": hub("main"), "revision": COMMIT, "files": FILES}, "was fetched"),
        ({"package": {"name": "p", "path": "."}}, {"source": {"package": {"name": "p", "path": "."}}, "revision": None,
          "files": FILES}, "package p: no version is recorded"),
        ({"finetune": {}}, {"source": {"finetune": {}}}, None),
    ],
    ids=["pinned", "branch", "another commit", "no files", "another source", "package", "made here"],
)  # fmt: skip
def test_a_source_is_pinned_or_named(expert: dict[str, Any], record: dict[str, Any], wanted: str | None) -> None:
    found = check_sources(results_with(expert, record))
    if wanted is None:
        assert found.failures == []
    else:
        (failure,) = found.failures
        assert wanted in failure


def test_the_page_of_a_suite_that_makes_everything_itself_is_whole(tmp_path: Path) -> None:
    results = results_with({"finetune": {}}, {})
    report = audit(results)
    assert {check["name"]: check["verdict"] for check in report["checks"]}["tables"] == "failed", "there are none"
    write_report(report, results, tmp_path / "a.json", tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text()
    assert "the table is missing" in page
    assert "cannot be checked" in page
    assert "made here" in page


def test_of_what_failed_only_the_first_jobs_are_to_be_run_again() -> None:
    def job(name: str, inputs: list[str], output: str) -> dict[str, Any]:
        return {"name": name, "inputs": dict.fromkeys(inputs), "outputs": {output: {}}, "output": {"": [output]}}

    jobs = [job("merge", [], "model"), job("predict", ["model"], "answers"), job("score", ["answers"], "scores")]
    results = results_with({"finetune": {}}, {}, jobs)
    checks = [{"mend": ["score"]}, {"mend": ["merge", "score"]}]
    assert mending(results, checks) == "snakemake --cores all --forcerun model -- results/audit/mine.html"
    assert mending(results, [{"mend": []}]) is None


def test_notes_tell_of_mixed_versions_and_of_trees_that_were_not_clean() -> None:
    results = results_with({"finetune": {}}, {}, [{"name": name, "outputs": {}, "environment": index}
                                                  for index, name in enumerate("ab")])  # fmt: skip
    machine = {"system": "s", "processor": "p"}
    results.provenance["environments"] = [
        {"software": {"torch": version}, "hardware": machine, "git": {"commit": COMMIT, "clean": clean}}
        for version, clean in (("1", True), ("2", False))
    ]
    told = notes(results)
    assert "Jobs ran with different versions of torch: 1, 2." in told
    assert "1 jobs ran in a tree with changes that were not committed." in told
    assert any(line.startswith("This audit ran with torch") for line in told)


def test_an_audit_without_provenance_is_one_sentence() -> None:
    with pytest.raises(UserError, match=r"results/mine/provenance.json: no such file; make it: snakemake"):
        Results(Path("results"), "mine")
    written("results/mine/provenance.json", "[]")
    with pytest.raises(UserError, match="not a provenance file"):
        Results(Path("results"), "mine")
    written("results/mine/provenance.json", json.dumps({"format": 99, "jobs": []}))
    with pytest.raises(UserError, match="of format 99"):
        Results(Path("results"), "mine")


def test_values_are_shown_plainly() -> None:
    assert [human_bytes(count) for count in (12, 1500, 2.5e6)] == ["12 B", "1.5 kB", "2.5 MB"]
    assert plain({"a": 1, "b": {"c": [None, 2]}}) == "a: 1, b: (c: [none, 2])"


def test_no_crate_is_made_of_an_audit_that_failed(tmp_path: Path) -> None:
    results = results_with({"finetune": {}}, {})
    results.jobs = {"score": {"finished": "1"}}
    write_json(
        Path("results/audit/mine.json"), {"suite": "mine", "verdict": "failed", "failed": ["files"], "checks": [1, 2]}
    )
    with pytest.raises(UserError, match=r"audit of mine: 1 of 2 checks failed \(files\); see results/audit/mine.html"):
        write_crate(results, tmp_path, tmp_path / "mine.yaml", tmp_path / "mine.zip")
    assert not (tmp_path / "mine.zip").exists()
