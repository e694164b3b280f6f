"""Results that lie in storage: a job works on copies, and whatever it says names the files by their names there."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.test_kept_jobs import Files
from twin_merging.errors import UserError
from twin_merging.io.aliases import alias, copies_lie_in, named, without_copies
from twin_merging.jobs import machine, sent
from twin_merging.jobs.kept import Kept
from twin_merging.jobs.records import read_record, record_name
from twin_merging.jobs.run import Lines, name_files
from twin_merging.jobs.store import STORE, rule_of, use_store

COPIES = ".snakemake/storage/s3/bucket/some/place"
MEASURED = ("started", "finished", "peak_mib", "taken")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(sent.COMMIT, raising=False)
    yield tmp_path
    copies_lie_in(None)
    for name in (STORE, sent.COMMIT):
        os.environ.pop(name, None)


def job_at(place: str, begin: str = "") -> Any:
    """A job of which every file of the results lies below `place`."""
    paths = {
        "input": Files(vectors=[f"{place}results/mine/vectors/one.txt"], suite=["config/suites/mine.yaml"]),
        "output": Files(
            weights=f"{place}results/mine/models/ties/weights.txt",
            private=f"{place}results/mine/models/ties/private",
            record=f"{place}results/mine/records/merge/ties.json",
        ),
    }
    for path in paths["input"]:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(f"{begin}vector")
    return SimpleNamespace(
        **paths,
        log=Files(),
        params={"settings": {"seed": 1}, "code": "c0de"},
        wildcards={"suite": "mine", "method": "ties"},
        threads=1,
        scriptdir=".",
    )


def run(job: Any) -> dict[str, Any]:
    """Work, unless the store has what the job would make; gives the record."""
    kept = Kept(job)
    if not kept.take():
        weights, private, _ = map(Path, job.output)
        private.mkdir(parents=True)
        weights.write_text("weights")
        (private / "head.txt").write_text("head")
        kept.write_record()
    return read_record(Path(job.output.get("record")))


def without_times(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in MEASURED}


@pytest.mark.parametrize("where", [COPIES, "/elsewhere/storage/s3/bucket"])
def test_a_copy_is_called_by_its_name(where: str) -> None:
    copies_lie_in(where)
    assert named(f"{where}/results/mine/merge.json") == "results/mine/merge.json"
    assert named("results/mine/merge.json") == "results/mine/merge.json"
    assert record_name(f"{where}/results/mine/records/merge/ties.json") == "merge/ties"
    assert rule_of(f"{where}/results/mine/records/merge/ties.json") == "merge"
    assert without_copies(f"{where}/results/a: not as {where}/results/b") == "results/a: not as results/b"
    copies_lie_in(None)
    assert named(f"{where}/results/a") == f"{where}/results/a"


def test_an_odd_name_is_still_found_behind_its_link() -> None:
    copies_lie_in(COPIES)
    Path("a{x}").write_text("a")
    assert named(alias("a{x}")) == "a{x}"


def test_a_log_calls_files_by_their_names() -> None:
    copies_lie_in(COPIES)
    line = logging.makeLogRecord({"msg": "wrote %s in %d s", "args": (Path(COPIES, "results/a"), 3)})
    assert Lines("job: %(message)s").format(line) == "job: wrote results/a in 3 s"


def test_what_other_libraries_say_in_a_log_is_named_too(folder: Path) -> None:
    log = folder / "job.log"
    log.write_bytes(f"\rLoading from: {COPIES}/results/base\n\xe2\x96".encode("latin-1"))
    name_files(log)
    assert COPIES.encode() in log.read_bytes(), "results lie here"
    copies_lie_in(COPIES)
    name_files(log)
    assert log.read_bytes() == b"\rLoading from: results/base\n\xe2\x96"


def test_a_record_is_that_of_a_job_whose_results_lie_here() -> None:
    here = run(job_at(""))
    copies_lie_in(COPIES)
    there = run(job_at(f"{COPIES}/"))
    assert without_times(there) == without_times(here)
    assert list(there["outputs"]) == [
        "results/mine/models/ties/weights.txt",
        "results/mine/models/ties/private/head.txt",
    ]


def test_the_store_knows_a_job_wherever_its_files_lie() -> None:
    use_store(".store", None, None, writes=False, any_machine=False)
    here = run(job_at(""))
    copies_lie_in(COPIES)
    there = run(job_at(f"{COPIES}/"))
    assert "taken" in there
    assert without_times(there) == without_times(here)
    assert Path(COPIES, "results/mine/models/ties/weights.txt").read_text() == "weights"
    assert "taken" not in run(job_at(f"{COPIES}/other/", begin="another "))


def test_the_commit_of_the_starting_machine_is_that_of_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"commit": "c" * 40, "clean": True, "changed": []}
    monkeypatch.setattr(sent, "commit", lambda workflow: found)
    file = Path(sent.write_sent(Path(".")))
    assert machine.commit(Path(".")) == {"commit": None, "clean": None, "changed": None}
    sent.take_sent(file)
    assert machine.commit(Path(".")) == found


def test_another_library_ends_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    file = Path(sent.write_sent(Path(".")))
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "library": "0" * 64}))
    with pytest.raises(UserError, match="install the same"):
        sent.take_sent(file)
    assert sent.COMMIT not in os.environ


def test_nothing_was_sent() -> None:
    sent.take_sent(Path("missing.json"))
    assert sent.COMMIT not in os.environ
