"""Weights in shards with an index: which tensor lies where, whole or not at all, and read again by everybody."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModel, AutoModelForSequenceClassification

from tests.random_models import write_models
from tests.tiny import LABELS
from twin_merging import TwinModel, UserError, merge, twin_merge
from twin_merging.api.commands import main
from twin_merging.api.export import export
from twin_merging.io.files import read_json, sha256
from twin_merging.io.sharding import (
    ONE_FILE,
    Shards,
    byte_count,
    file_names,
    link_weights,
    model_file,
    packed,
    save_model,
)
from twin_merging.io.tensors import INDEX, WEIGHTS, Checkpoint, save_tensors
from twin_merging.io.weights import open_directory, weight_files

LAYERS = {f"layers.{number}.{part}": 40 for number in range(12) for part in ("a", "b")}


def bytes_in(parts: list[list[str]], sizes: dict[str, int]) -> list[int]:
    return [sum(sizes[name] for name in part) for part in parts]


def names_in(directory: Path) -> set[str]:
    return {file.name for file in directory.iterdir()}


def test_as_few_shards_as_hold_the_tensors_in_their_order_each_filled_like_the_others() -> None:
    parts = packed({**LAYERS, "embed": 100, "norm": 4}, Shards(limit=400))
    assert [name for part in parts for name in part] == ["embed", *LAYERS, "norm"], "layer 2 comes before layer 10"
    assert len(parts) == 3
    assert max(bytes_in(parts, {**LAYERS, "embed": 100, "norm": 4})) < 370


def test_a_model_without_tensors_is_one_file() -> None:
    assert packed({}, Shards(limit=400)) == packed({}, ONE_FILE) == [[]]


def test_a_tensor_above_the_limit_has_a_shard_of_its_own() -> None:
    parts = packed({"a": 30, "b": 500, "c": 30, "d": 30}, Shards(limit=100))
    assert parts == [["a"], ["b"], ["c", "d"]]


def test_no_shard_is_larger_than_the_limit_whatever_the_sizes() -> None:
    drawn = random.Random(0)
    for _ in range(200):
        sizes = {f"t{number}": drawn.choice([0, 3, 50, 90, 130, 900]) for number in range(drawn.randint(1, 30))}
        parts = packed(sizes, Shards(limit=200))
        assert sorted(name for part in parts for name in part) == sorted(sizes)
        assert all(parts)
        assert all(size <= 200 or len(part) == 1 for size, part in zip(bytes_in(parts, sizes), parts, strict=True))
        try:
            declared = packed(sizes, Shards(200, max(2, -(-sum(sizes.values()) // 200))))
        except UserError:
            continue
        assert sorted(name for part in declared for name in part) == sorted(sizes)
        assert all(
            size <= 200 or len(part) == 1 for size, part in zip(bytes_in(declared, sizes), declared, strict=True)
        )


def test_a_declared_number_of_shards_is_kept() -> None:
    for count in (6, 8, 13, 24):
        parts = packed(LAYERS, Shards(limit=200, count=count))
        assert len(parts) == count
        assert all(parts)
    # In the order of the names three shards of 100 do not hold these; the largest first, they do.
    sizes = {"a": 60, "b": 60, "c": 60, "d": 40, "e": 40, "f": 40}
    parts = packed(sizes, Shards(limit=100, count=3))
    assert sorted(bytes_in(parts, sizes)) == [100, 100, 100]


@pytest.mark.parametrize(("count", "least", "size"), [(4, 6, 1001), (25, 5, 960)])
def test_a_number_that_does_not_hold_the_model_is_said_with_what_the_suite_should_say(
    count: int, least: int, size: int
) -> None:
    limit = 200 if count == 4 else 10**6
    sizes = dict.fromkeys(LAYERS, 50 if count == 4 else 40)
    with pytest.raises(UserError) as error:
        packed(sizes, Shards(limit=limit, count=count))
    assert f"do not make {count} shards of at most {limit} bytes" in str(error.value)
    assert "base: {size: " in str(error.value)
    said = int(str(error.value).rpartition("{size: ")[2].partition("B}")[0])
    assert packed(sizes, Shards(limit, -(-said // limit)))


def test_one_file_of_a_model_that_is_larger_says_what_the_suite_should_say(caplog: pytest.LogCaptureFixture) -> None:
    assert packed(LAYERS, Shards(limit=500, count=1)) == [packed(LAYERS, ONE_FILE)[0]]
    assert "960 B of weights are written as one file, larger than 500 B; say base: {size: 960B} in the suite" in (
        caplog.text
    )


def test_sizes_as_people_write_them() -> None:
    sizes = ("5GB", "500MB", "2GiB", "1.5 kB", "12", 7)
    assert [byte_count(size) for size in sizes] == [5 * 10**9, 5 * 10**8, 2**31, 1500, 12, 7]
    for wrong in ("5 gigabytes", "", "GB", "-1GB", "0GB", 0, -3):
        with pytest.raises(ValueError, match=r"no size|holds nothing"):
            byte_count(wrong)


TENSORS = {"a": torch.arange(40.0).view(10, 4), "b": torch.ones(6, dtype=torch.bfloat16), "c": torch.arange(9)}


def test_shards_appear_whole_with_their_index_or_not_at_all(tmp_path: Path) -> None:
    shapes = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in TENSORS.items()}
    for fault in ("raised", "not whole"):
        with (  # noqa: PT012
            pytest.raises(ValueError, match=r"stopped|never written whole"),
            model_file(tmp_path / "model", shapes, Shards(limit=80)) as file,
        ):
            file.write("c", TENSORS["c"])
            file.write("a", TENSORS["a"][:5])
            if fault == "raised":
                raise ValueError("stopped")
        assert not list((tmp_path / "model").iterdir()), fault
    for order in ("abc", "cba"):
        with model_file(tmp_path / order, shapes, Shards(limit=80), {"told": "this"}) as file:
            for name in order:
                file.write(name, TENSORS[name])
    assert names_in(tmp_path / "abc") == set(file_names(3))
    for name in file_names(3):
        assert sha256(tmp_path / "abc" / name) == sha256(tmp_path / "cba" / name)
    index = read_json(tmp_path / "abc" / INDEX)
    assert index["metadata"] == {"total_size": 160 + 12 + 72}
    for name, shard in index["weight_map"].items():
        with safe_open(tmp_path / "abc" / shard, framework="pt") as stored:
            assert stored.get_tensor(name).equal(TENSORS[name])
            assert stored.metadata() == {"format": "pt", "told": "this"}
    assert {name: tensor.tolist() for name, tensor in open_directory(tmp_path / "abc").items()} == {
        name: tensor.tolist() for name, tensor in TENSORS.items()
    }


def test_one_form_takes_the_place_of_another(tmp_path: Path) -> None:
    save_model(tmp_path, TENSORS, ONE_FILE)
    save_tensors(tmp_path / "alone", TENSORS)
    assert (tmp_path / WEIGHTS).read_bytes() == (tmp_path / "alone").read_bytes()
    kept = {"alone", "config.json", "model-card.safetensors"}
    for name in kept - {"alone"}:
        (tmp_path / name).touch()
    for limit, names in ((80, file_names(3)), (200, file_names(2)), (10**6, [WEIGHTS])):
        save_model(tmp_path, TENSORS, Shards(limit))
        assert names_in(tmp_path) == {*names, *kept}
        assert [file.name for file in weight_files(tmp_path)] == names
    save_model(tmp_path / "shards", TENSORS, Shards(80))
    link_weights(tmp_path / "shards", tmp_path)
    assert names_in(tmp_path) - {"shards"} == {*file_names(3), *kept}
    assert all((tmp_path / name).stat().st_nlink == 2 for name in file_names(3))


def test_a_merge_in_shards_has_the_values_of_one_in_one_file(tmp_path: Path) -> None:
    base, experts = write_models(tmp_path / "models")
    one = merge("ties", base=base, experts=experts, output=tmp_path / "one", density=0.3)
    assert (one / WEIGHTS).exists()
    found = [
        merge("ties", base=base, experts=experts, output=tmp_path / f"shards{threads}", density=0.3, threads=threads,
              max_shard_size="700kB")
        for threads in (1, 2)
    ]  # fmt: skip
    names = [file.name for file in weight_files(found[0])]
    assert len(names) > 2
    for name in names[:-1]:
        assert (found[0] / name).stat().st_size < 710_000 or len(Checkpoint(found[0] / name)) == 1
    wanted = open_directory(one)
    for directory in found:
        body = open_directory(directory)
        assert list(body) == list(wanted)
        assert all(body[name].equal(wanted[name]) for name in wanted)
        record = read_json(directory / "merge.json")["files"]
        assert {name: record[name] for name in names} == {name: sha256(directory / name) for name in names}
        assert WEIGHTS not in record
    assert all((found[0] / name).read_bytes() == (found[1] / name).read_bytes() for name in names)
    again = merge("weight_average", base=found[0], experts={"x": found[1]}, output=tmp_path / "again")
    assert set(read_json(again / "merge.json")["inputs"]) == {
        f"{part}/{name}" for part in ("base", "experts/x") for name in names[:-1]
    }


@pytest.fixture(scope="module")
def twins(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("twins")
    shared = {"base": tiny / "base", "experts": {task: tiny / "experts" / task for task in LABELS}}
    options: dict[str, Any] = {"rank": 3, "weights": "uniform", **shared}
    return {size: twin_merge(output=root / size, max_shard_size=size, **options) for size in ("5GB", "10kB")}


def logits(model: Any, task: str) -> torch.Tensor:
    batch = {"input_ids": torch.tensor([[3, 4, 5, 6]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}
    with torch.no_grad():
        return model(**batch, tasks=[task]).logits


def test_a_twin_in_shards_answers_like_one_in_one_file(twins: dict[str, Path], tmp_path: Path) -> None:
    one, many = twins.values()
    assert not (many / WEIGHTS).exists()
    assert len(weight_files(many)) > 3
    assert {f"shared/{file.name}" for file in weight_files(many)} <= set(read_json(many / "merge.json")["inputs"])
    task = next(iter(LABELS))
    loaded = {size: TwinModel.from_pretrained(folder) for size, folder in twins.items()}
    assert logits(loaded["5GB"], task).equal(logits(loaded["10kB"], task))
    for own, other in zip(
        *(AutoModel.from_pretrained(folder, add_pooling_layer=False).parameters() for folder in (one, many)),
        strict=True,
    ):
        assert own.equal(other)
    loaded["5GB"].save_pretrained(tmp_path / "saved", max_shard_size=10_000)
    assert len(weight_files(tmp_path / "saved")) == len(weight_files(many))
    assert logits(TwinModel.from_pretrained(tmp_path / "saved"), task).equal(logits(loaded["5GB"], task))
    shutil.copytree(many, tmp_path / "mixed")
    export(tmp_path / "mixed", {task: 1.0}, tmp_path / "exported", max_shard_size="10kB")
    assert len(weight_files(tmp_path / "exported")) > 3
    alone = export(one, {task: 1.0}, tmp_path / "alone")
    own, other = (AutoModelForSequenceClassification.from_pretrained(path) for path in (tmp_path / "exported", alone))
    assert all(a.equal(b) for a, b in zip(own.parameters(), other.parameters(), strict=True))


def test_a_size_that_is_none_is_said_before_anything_is_read(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="max_shard_size: '5 elephants' is no size"):
        merge("ties", base=tmp_path, experts={"a": tmp_path}, output=tmp_path / "out", max_shard_size="5 elephants")
    task = next(iter(LABELS))
    command = ["merge", "weight_average", "--base", str(tiny / "base"), "--expert", f"{task}={tiny / 'experts' / task}"]
    assert main([*command, "--output", str(tmp_path / "out"), "--max-shard-size", "10kB"]) == 0
    assert (tmp_path / "out" / INDEX).exists()
    assert main([*command, "--output", str(tmp_path / "other"), "--max-shard-size", "big"]) == 1
    assert "max_shard_size: 'big' is no size" in capsys.readouterr().err
