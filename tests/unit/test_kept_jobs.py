"""Jobs before the store: which are the same, what is taken and what its record says, and what happens when it cannot
be."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from twin_merging.io.files import read_json
from twin_merging.io.partials import remove
from twin_merging.io.store import Store
from twin_merging.jobs import machine
from twin_merging.jobs.kept import Kept
from twin_merging.jobs.records import Inputs
from twin_merging.jobs.store import HASHES, RULES, STORE, TELL_THE_SUITE, may_be_kept, use_store

ROOT = Path(__file__).parents[2]


class Files(list[str]):
    """A rule's files as Snakemake gives them: a list, and by name."""

    def __init__(self, **named: str | list[str]):
        super().__init__(path for paths in named.values() for path in ([paths] if isinstance(paths, str) else paths))
        self.named = named

    def get(self, name: str, default: Any = None) -> Any:
        return self.named.get(name, default)

    def items(self) -> Any:
        return self.named.items()


def job_of(suite: str = "mine", rule: str = "merge", more: Mapping[str, str] | None = None, **settings: Any) -> Any:
    """A job that merges two files and the base."""
    place = f"results/{suite}"
    return SimpleNamespace(
        input=Files(vectors=[f"{place}/vectors/{task}.txt" for task in ("one", "two")], base=f"{place}/base.txt"),
        output=Files(
            weights=f"{place}/models/ties/weights.txt",
            private=f"{place}/models/ties/private",
            table=f"results/tables/{suite}-ties.csv",
            record=f"{place}/records/{rule}/ties.json",
        ),
        log=Files(benchmark=f"{place}/benchmarks/{rule}/ties.tsv"),
        params={"settings": {"seed": 1, **settings}, "code": "c0de"},
        wildcards={"suite": suite, "method": "ties", **(more or {})},
        threads=2,
        scriptdir=".",
    )


def work(job: Any) -> None:
    """What the job makes: the weights, a second name of the base, and a folder."""
    weights, private, table, _ = map(Path, job.output)
    (private / "deep").mkdir(parents=True)
    weights.write_text("+".join(Path(path).read_text() for path in job.input))
    os.link(job.input.get("base"), private / "deep" / "base.txt")
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text("a,table")
    Path(job.log.get("benchmark")).parent.mkdir(parents=True, exist_ok=True)
    Path(job.log.get("benchmark")).write_text("12 s")


def remove_outputs(job: Any) -> None:
    """As Snakemake does before it starts a job."""
    for path in map(Path, job.output):
        remove(path)


def is_there(job: Any) -> bool:
    return may_be_kept(job) and Kept(job).is_there()


def run(job: Any, during: Callable[[], object] = lambda: None) -> bool:
    """Run a job as `run_job` does; gives whether it worked itself."""
    remove_outputs(job)
    known = is_there(job)
    before = Kept(job)
    if before.take():
        assert known
        return False
    assert [path for path in job.output if Path(path).exists()] == []
    during()
    work(job)
    before.write_record()
    return True


def make_inputs(suite: str = "mine") -> None:
    for name in ("vectors/one", "vectors/two", "base"):
        path = Path(f"results/{suite}/{name}.txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def outputs_of(job: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in map(Path, job.output[:-1]):
        files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
        found.update((str(file), file.read_text()) for file in files)
    return found


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(STORE, "")
    monkeypatch.setenv(HASHES, "")
    monkeypatch.delenv(HASHES)
    assert use_store("results/.store", None, None, writes=False, any_machine=False) == []
    make_inputs()
    return tmp_path


def test_the_same_job_is_taken_with_the_record_of_the_one_that_worked() -> None:
    job = job_of()
    assert run(job)
    made, record = outputs_of(job), read_json(job.output.get("record"))
    Path(job.log.get("benchmark")).unlink()
    assert not run(job)
    again = read_json(job.output.get("record"))
    assert outputs_of(job) == made
    assert list(made) == [
        "results/mine/models/ties/weights.txt",
        "results/mine/models/ties/private/deep/base.txt",
        "results/tables/mine-ties.csv",
    ]
    taken = again.pop("taken")
    assert again == record
    assert list(again) == list(record)
    assert (taken["from"], taken["made"]) == ("results/.store", record["finished"])
    assert Path(job.log.get("benchmark")).read_text() == "12 s"


def test_an_output_that_was_a_second_name_of_an_input_is_one_again_and_not_kept() -> None:
    run(job_of())
    names = [file.read_text() for file in Path("results/.store/files").glob("*/*")]
    assert sorted(names) == ["a,table", "vectors/one+vectors/two+base"]
    assert not run(job_of())
    assert Path("results/mine/models/ties/private/deep/base.txt").samefile("results/mine/base.txt")


def test_a_suite_under_another_name_takes_it_with_paths_of_its_own() -> None:
    run(job_of())
    make_inputs("yours")
    job = job_of("yours")
    assert not run(job)
    record = read_json(job.output.get("record"))
    paths = [*record["inputs"], *record["outputs"], *record["output"]["weights"], *record["input"]["base"]]
    assert [path for path in paths if "mine" in path or "yours" not in path] == []
    assert record["wildcards"]["suite"] == "yours"
    assert outputs_of(job)["results/tables/yours-ties.csv"] == "a,table"


def test_a_suite_under_another_name_makes_itself_what_its_name_stands_in() -> None:
    run(job_of(rule="tabulate"))
    make_inputs("yours")
    assert run(job_of("yours", rule="tabulate"))


def test_no_other_rule_s_script_knows_the_suite_s_name() -> None:
    scripts = [file.stem for file in (ROOT / "workflow/scripts").glob("*.py") if "wildcards.suite" in file.read_text()]
    assert set(scripts) & RULES == TELL_THE_SUITE


def _setting(job: Any) -> None:
    job.params["settings"]["seed"] = 2


def _order_of_settings(job: Any) -> None:
    job.params["settings"] = dict(reversed([*job.params["settings"].items(), ("more", 1)]))


def _code(job: Any) -> None:
    job.params["code"] = "c0de2"


def _wildcard(job: Any) -> None:
    job.wildcards["method"] = "dare"


def _content(job: Any) -> None:
    Path(job.input[2]).write_text("basE")


def _order_of_inputs(job: Any) -> None:
    job.input = Files(vectors=list(reversed(job.input.get("vectors"))), base=job.input.get("base"))


def _role(job: Any) -> None:
    job.input = Files(experts=job.input.get("vectors"), base=job.input.get("base"))


def _name(job: Any) -> None:
    other = Path("results/mine/other.txt")
    other.write_text("base")
    job.input = Files(vectors=job.input.get("vectors"), base=str(other))


@pytest.mark.parametrize(
    "change", [_setting, _order_of_settings, _code, _wildcard, _content, _order_of_inputs, _role, _name]
)
def test_a_job_that_differs_in_one_thing_works_itself(change: Callable[[Any], None]) -> None:
    first, job = job_of(more={}), job_of()
    if change is _order_of_settings:
        first.params["settings"]["more"] = 1
    assert run(first)
    assert not run(deepcopy(first))
    change(job)
    assert run(job)
    assert not run(job)


def test_another_rule_works_itself() -> None:
    assert run(job_of())
    assert run(job_of(rule="merge_masked"))


@pytest.mark.parametrize("package", ["python", "torch", "transformers", "pyarrow", "twin-merging"])
def test_another_version_of_what_computes_works_itself(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(job_of())
    other = {**machine.software(), package: "0.0"}
    monkeypatch.setattr(machine, "software", lambda: other)
    assert run(job_of())


@pytest.mark.parametrize("package", ["snakemake", "datasets", "lm_eval"])
def test_another_version_of_what_only_fetches_or_plans_does_not_matter(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(job_of())
    other = {**machine.software(), package: "0.0"}
    monkeypatch.setattr(machine, "software", lambda: other)
    assert not run(job_of())


def test_another_processor_works_itself_unless_any_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    use_store("results/.store", None, None, writes=False, any_machine=True)
    assert run(job_of())
    monkeypatch.setattr(machine, "_processor", lambda: "another")
    assert not run(job_of())
    use_store("results/.store", None, None, writes=False, any_machine=False)
    assert run(job_of())
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    assert run(job_of())


def test_without_a_store_and_for_other_rules_every_job_works() -> None:
    fetch = job_of(rule="fetch_base")
    assert [run(fetch), run(fetch)] == [True, True]
    use_store(None, None, None, writes=False, any_machine=False)
    assert [run(job_of()), run(job_of())] == [True, True]
    assert not Path("results/.store").exists()


def predicting(shard: str | None = None, **settings: Any) -> Any:
    """The job of rule predict, or one of two that share out its rows."""
    job = job_of(rule="predict", **settings)
    if shard is not None:
        place = "results/mine"
        job.output = Files(
            answers=f"{place}/predictions/ties/shard-{shard}-of-2.json",
            record=f"{place}/records/predict_shard/ties/{shard}-of-2.json",
        )
        job.wildcards = {**job.wildcards, "shard": shard, "shards": "2"}
    return job


def test_a_shard_is_left_undone_where_the_whole_is_kept_and_is_kept_by_itself_nowhere() -> None:
    for shard in ("1", "2"):
        job = predicting(shard)
        assert not is_there(job)
        before = Kept(job)
        assert not before.take()
        Path(job.output[0]).parent.mkdir(parents=True, exist_ok=True)
        Path(job.output[0]).write_text('{"answered": {}}')
        before.write_record()
    assert not is_there(predicting()), "no shard was kept, in the whole's place least of all"
    assert run(predicting())
    for shard in ("1", "2"):
        job = predicting(shard)
        assert is_there(job)
        assert Kept(job).take()
        assert Path(job.output[0]).read_text() == "{}\n"
        assert read_json(job.output.get("record"))["rule"] == "predict_shard"
    other = predicting("1", seed=2)
    assert not is_there(other)
    assert not Kept(other).take()


def test_a_job_that_gathers_shards_is_the_one_that_answers_all_and_names_them_in_its_record() -> None:
    shards = []
    for number in (1, 2):
        shard = predicting(str(number))
        Path(shard.output[0]).parent.mkdir(parents=True, exist_ok=True)
        Path(shard.output[0]).write_text("{}")
        Kept(shard).write_record()
        shards.append(shard)
    whole, gathers = predicting(), predicting()
    gathers.input = Files(
        **gathers.input.named,
        shards=[shard.output[0] for shard in shards],
        shard_records=[shard.output[1] for shard in shards],
    )
    assert run(gathers)
    record = read_json(gathers.output.get("record"))
    assert [sorted(shard) for shard in record["shards"]] == [
        ["finished", "git", "hardware", "peak_mib", "software", "started"]
    ] * 2
    assert not run(whole), "the same job"
    assert read_json(whole.output.get("record"))["inputs"] == record["inputs"]
    assert set(record["input"]) == {"vectors", "base"}


def test_a_damaged_file_is_named_never_used_and_made_anew(caplog: pytest.LogCaptureFixture) -> None:
    job = job_of()
    run(job)
    weights, made = Path(job.output[0]), outputs_of(job)
    weights.write_text("edited in place")
    name = read_json(job.output.get("record"))["outputs"][str(weights)]["sha256"]
    with caplog.at_level(logging.INFO):
        assert run(job)
    assert f"{name}: its content is not that of its name; the job runs" in caplog.text
    assert outputs_of(job) == made
    assert not run(job)
    assert outputs_of(job) == made


def test_a_damaged_entry_is_named_and_never_used(caplog: pytest.LogCaptureFixture) -> None:
    job = job_of()
    run(job)
    (entry,) = Path("results/.store/entries").glob("*/*.json")
    entry.write_text(entry.read_text().replace("ties", "tieS"))
    with caplog.at_level(logging.INFO):
        assert run(job)
    assert f"{entry}: its content is not that of its hash; the job runs" in caplog.text
    assert not run(job)


def test_an_entry_writes_nowhere_but_to_outputs() -> None:
    job = job_of()
    run(job)
    (entry,) = Path("results/.store/entries").glob("*/*.json")
    store, content = Store(Path("results/.store")), json.loads(entry.read_text().split("\n", 1)[1])
    for name in ("results/{suite}/stray.txt", "results/{suite}/models/ties/private/../../../../stray.txt", "/stray"):
        files = {**content["files"], name: content["files"]["results/{suite}/models/ties/weights.txt"]}
        store.put(entry.parent.name, entry.stem, {**content, "files": files}, {})
        assert run(job)
        assert not [*Path().rglob("stray*")]


def test_a_file_of_the_store_that_is_gone_is_made_anew() -> None:
    job = job_of()
    run(job)
    for file in Path("results/.store/files").glob("*/*"):
        file.unlink()
    assert run(job)
    assert not run(job)


def test_what_was_read_must_be_what_was_hashed(caplog: pytest.LogCaptureFixture) -> None:
    job = job_of()
    assert run(job, during=lambda: Path("results/mine/base.txt").write_text("changed meanwhile"))
    assert "not kept: results/mine/base.txt changed while the job ran" in caplog.text
    record = read_json(job.output.get("record"))
    assert record["inputs"]["results/mine/base.txt"]["size"] == len("changed meanwhile")
    make_inputs()
    assert run(job, during=lambda: os.utime("results/mine/base.txt"))  # another time, the same content
    assert not run(job)


def test_inputs_are_hashed_once_by_a_script_and_its_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    run(job_of())
    Path("results/mine/base.txt").write_text("new")
    job, whole = job_of(), Inputs.of
    read: list[Any] = []

    def counted(job: Any) -> Inputs:
        read.append(job)
        return whole(job)

    monkeypatch.setattr(Inputs, "of", counted)
    remove_outputs(job)
    assert not is_there(job)  # the script
    assert not is_there(job)  # its fork
    fork = Kept(job)
    assert not fork.take()
    work(job)
    fork.write_record()
    assert len(read) == 1
    assert HASHES not in os.environ
    assert not run(job)


def shared_by(other: Path) -> Any:
    """A colleague's working folder that has run the job, and its store."""
    here = Path.cwd()
    other.mkdir()
    os.chdir(other)
    make_inputs("theirs")
    run(job_of("theirs"))
    os.chdir(here)
    return other / "results/.store"


def test_a_shared_store_is_taken_from_and_kept_in_the_own_one(tmp_path: Path) -> None:
    shared = shared_by(tmp_path / "other")
    before = sorted(shared.rglob("*"))
    assert use_store("results/.store", None, str(shared), writes=False, any_machine=False) == []
    job = job_of()
    assert not run(job)
    assert read_json(job.output.get("record"))["taken"]["from"] == str(shared)
    assert Path(job.output[0]).stat().st_nlink == 2  # its own and its own store's, none of the colleague's
    assert run(job_of(more={"method": "dare"}))
    assert sorted(shared.rglob("*")) == before
    use_store("results/.store", None, None, writes=False, any_machine=False)
    assert not run(job)


def test_damage_in_a_shared_store_is_named_and_left_to_its_owner(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shared = shared_by(tmp_path / "other")
    (tmp_path / "other/results/theirs/models/ties/weights.txt").write_text("edited")
    before = {file: file.stat().st_mtime_ns for file in shared.rglob("*")}
    use_store("results/.store", None, str(shared), writes=False, any_machine=False)
    with caplog.at_level(logging.INFO):
        assert run(job_of())
    assert f"{shared}: damaged, and not used" in caplog.text
    assert {file: file.stat().st_mtime_ns for file in shared.rglob("*")} == before


def test_a_store_is_kept_within_its_limit_by_the_jobs() -> None:
    use_store("results/.store", 2e-9, None, writes=False, any_machine=False)  # two bytes
    first, second = job_of(), job_of(more={"method": "dare"})
    assert run(first)
    Path("results/mine/base.txt").write_text("another base")
    Path("results/.store/trimmed").unlink()
    assert run(second)  # which replaces what the first made
    assert not run(second)
    make_inputs()
    assert run(first)


def test_a_shared_store_that_may_be_written_gets_copies(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    use_store("results/.store", None, str(tmp_path / "shared"), writes=True, any_machine=False)
    run(job_of())
    assert all(file.stat().st_nlink == 1 for file in (tmp_path / "shared/files").glob("*/*"))
    use_store("other", None, str(tmp_path / "shared"), writes=False, any_machine=False)
    assert not run(job_of())


def test_a_store_that_cannot_be_written_stops_no_job(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    use_store("file/store", None, None, writes=False, any_machine=False)  # no folder can be made there
    assert [run(job_of()), run(job_of())] == [True, True]
    assert "file/store: nothing is kept there" in caplog.text


def test_what_is_wrong_with_a_store_is_said_once_before_the_run(tmp_path: Path, monkeypatch: Any) -> None:
    (missing,) = use_store("results/.store", None, "nowhere", writes=False, any_machine=False)
    assert missing == "store_shared: nowhere: no such folder; nothing is taken from it"
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    said = use_store("results/.store", None, str(tmp_path), writes=True, any_machine=False)
    assert said == [
        f"store_shared: {tmp_path}: cannot be written; nothing is put there",
        "store: results/.store: cannot be written; nothing is put there",
    ]
    assert use_store("results/.store", None, str(tmp_path), writes=False, any_machine=False) == said[1:]


def test_the_rules_whose_outputs_are_kept_are_there() -> None:
    text = "".join(file.read_text() for file in (ROOT / "workflow/rules").glob("*.smk"))
    assert {rule for rule in RULES if f"rule {rule}:" not in text and f" as {rule} with" not in text} == set()
