"""Test rows that several jobs share out: who answers what, and that nothing shows of it in the predictions."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.plans import edited, suite_of
from tests.predicting import BATCHES, FAMILIES, answer, make, views
from tests.tiny import SUITE
from tests.unit.test_interrupted_predictions import of_key
from twin_merging.io.files import read_json, write_json
from twin_merging.jobs.records import with_shards
from twin_merging.plan import inputs, resources, shards
from twin_merging.prediction.predict import gather
from twin_merging.prediction.shards import Shard, read_shards, shared_out


@pytest.mark.parametrize("count", [1, 2, 4, 7, 100])
def test_every_batch_has_one_shard_and_none_has_much_more_than_another(count: int) -> None:
    work = [random.Random(1).randint(1, 900) for _ in range(60)]
    shares = shared_out(work, count)
    assert sorted(number for share in shares for number in share) == list(range(60))
    assert len(shares) == count
    assert shares == shared_out(work, count)
    loads = [sum(work[number] for number in share) for share in shares]
    assert max(loads) - min(loads) <= max(work)
    assert max(loads) <= 4 / 3 * max(max(work), sum(work) / count)


@pytest.mark.parametrize(("family", "count"), [("encoder", 3), ("decoder", 4), ("options", 2), ("encoder", 12)])
def test_what_shards_answer_is_gathered_to_the_bytes_of_one_job(family: str, count: int, tmp_path: Path) -> None:
    make(family, tmp_path)
    whole = answer(family, tmp_path, "whole.parquet")
    files = [tmp_path / f"{number}.json" for number in range(1, count + 1)]
    done = [answer(family, tmp_path, file.name, shard=Shard(number, count)) for number, file in enumerate(files, 1)]
    assert sum(done) == whole
    assert len([one for one in done if one]) == min(count, whole)
    gathered = read_shards(files)
    assert gathered.is_whole
    data = {task: tmp_path / task for task in "abc"}
    gather(gathered, data, views(family), None, tmp_path / "gathered.parquet", FAMILIES[family].columns)
    assert (tmp_path / "gathered.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    for missing in files[:2]:
        rest = read_shards([file for file in files if file != missing])
        assert not rest.is_whole or not read_shards([missing]).stored


def test_a_shard_goes_on_from_what_an_interrupted_job_of_any_count_had_answered(tmp_path: Path) -> None:
    make("encoder", tmp_path)
    answer("encoder", tmp_path, "whole.parquet")
    with pytest.raises(KeyboardInterrupt):
        answer("encoder", tmp_path, "again.parquet", of_key(tmp_path, "key"), 3)
    done = [
        answer("encoder", tmp_path, f"{number}.json", of_key(tmp_path, "key"), shard=Shard(number, 2))
        for number in (1, 2)
    ]
    assert sum(done) == BATCHES - 3
    assert (tmp_path / "checkpoints/predict-twin/key.json").is_file(), "the other shards' parts are left"
    data = {task: tmp_path / task for task in "abc"}
    gather(read_shards([tmp_path / "1.json", tmp_path / "2.json"]), data, views("encoder"), None, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_a_shard_that_was_left_undone_makes_no_whole(tmp_path: Path) -> None:
    write_json(tmp_path / "1.json", {})
    assert not read_shards([tmp_path / "1.json"]).is_whole
    write_json(tmp_path / "2.json", {"batches": 1, "answered": {"0": {"places": [1, 0], "rows": [{"a": 1}, {"a": 0}]}}})
    gathered = read_shards([tmp_path / "1.json", tmp_path / "2.json"])
    assert gathered.is_whole
    assert gathered.rows() == [{"a": 0}, {"a": 1}]


@pytest.fixture
def suites(tmp_path: Path) -> Any:
    """The suite as it is, and with four shards."""
    text = SUITE.format(root=tmp_path)
    return suite_of(tmp_path, text), suite_of(tmp_path, edited(text, {"shards": 4}))


def test_the_configuration_goes_before_the_suite(suites: Any) -> None:
    plain, four = suites
    assert [shards.count(suite, asked) for suite in suites for asked in (None, 1, 3)] == [1, 1, 3, 4, 1, 3]
    assert shards.answers(plain, {"model": "twin"}, None) == []
    assert shards.answers(four, {"model": "twin"}, 2) == [
        f"results/{four.name}/predictions/twin/shard-{number}-of-2.json" for number in (1, 2)
    ]
    assert four.content == plain.content


def test_what_snakemake_remembers_of_a_job_has_no_shards(suites: Any) -> None:
    _, suite = suites
    of_one = inputs.test_data(suite, {"model": "twin"})
    of_four = [*of_one, *shards.answers(suite, {"model": "twin"}, 4), *shards.records(suite, {"model": "twin"}, 4)]
    assert len(of_four) == len(of_one) + 8

    class Persistence:
        def _input(self, job: Any) -> list[str]:
            return sorted(job.input)

    for _ in range(2):  # as a workflow does that uses this one
        shards.forget_shards(Persistence)
    for paths in (of_one, of_four, [f"s3://bucket/{path}" for path in of_four]):
        kept = Persistence()._input(SimpleNamespace(input=paths))
        assert [path.removeprefix("s3://bucket/") for path in kept] == sorted(of_one)


def test_a_job_that_gathers_asks_for_no_gpu_and_little_memory(suites: Any) -> None:
    suite, _ = suites
    model = {"suite": suite.name, "model": "twin"}
    whole = resources.of_job(suite, "predict", model, gpus=1)
    gathers = resources.of_job(suite, "predict", model, gpus=1, shards=4)
    shard = resources.of_job(suite, "predict_shard", {**model, "shard": "1", "shards": "4"}, gpus=1, shards=4)
    assert (whole.gpu, gathers.gpu, shard.gpu) == (1, 0, 1)
    assert gathers.mem_mb < whole.mem_mb == shard.mem_mb
    assert gathers.runtime <= shard.runtime <= whole.runtime


def test_a_record_tells_of_the_jobs_that_did_parts_of_the_work() -> None:
    record = {"rule": "predict", "shards": [{"started": "1"}, {"started": "2"}]}
    assert with_shards(record) == [record, *record["shards"]]
    assert with_shards({"rule": "score"}) == [{"rule": "score"}]


def test_parts_are_read_back_with_the_same_bits(tmp_path: Path) -> None:
    numbers = [0.1, 1 / 3, 2**-1074, 1e308, float("inf"), -0.0]
    write_json(tmp_path / "numbers.json", {"numbers": numbers})
    assert [number.hex() for number in read_json(tmp_path / "numbers.json")["numbers"]] == [n.hex() for n in numbers]
