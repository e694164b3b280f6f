"""Reading and writing tensors, and outputs that appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from twin_merging.errors import UserError
from twin_merging.io.files import read_json, sha256, whole_directory, whole_file, write_json
from twin_merging.io.tensors import Checkpoint, save_tensors, write_tensors
from twin_merging.io.weights import open_directory

TENSORS = {
    "b": torch.randn(3, 4),
    "a": torch.arange(6, dtype=torch.int64),
    "half": torch.randn(5).to(torch.bfloat16),
    "scalar": torch.tensor(1.5),
    "empty": torch.zeros(0, 4),
    "turned": torch.randn(4, 3).T,
}


def test_what_is_written_is_read_back_by_us_and_by_safetensors(tmp_path: Path) -> None:
    save_tensors(tmp_path / "x.safetensors", TENSORS, {"form": "dense"})
    ours, theirs = Checkpoint(tmp_path / "x.safetensors"), load_file(tmp_path / "x.safetensors")
    assert list(ours) == sorted(TENSORS) == sorted(theirs)
    assert ours.metadata == {"format": "pt", "form": "dense"}
    for name, tensor in TENSORS.items():
        assert torch.equal(ours[name], tensor)
        assert torch.equal(theirs[name], tensor)
        assert (ours.shape(name), ours.dtype(name)) == (tuple(tensor.shape), tensor.dtype)
    assert torch.equal(ours.rows("b", 1, 3), TENSORS["b"][1:3])


def test_the_order_of_writing_changes_no_byte(tmp_path: Path) -> None:
    shapes = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in TENSORS.items()}
    write_tensors(tmp_path / "a", shapes, TENSORS.items())
    write_tensors(tmp_path / "b", dict(reversed(shapes.items())), reversed(TENSORS.items()))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    shapes = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in TENSORS.items()}
    with pytest.raises(ValueError, match="3 tensors were never written whole, half among them"):
        write_tensors(tmp_path / "x", shapes, list(TENSORS.items())[:2])
    with pytest.raises(ValueError, match="b: "):
        write_tensors(tmp_path / "x", shapes, [("b", torch.zeros(1))])
    assert list(tmp_path.iterdir()) == []


def test_shards_read_as_one_and_a_name_in_two_of_them_is_an_error(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "1.safetensors")
    save_file({"b": torch.zeros(2)}, tmp_path / "2.safetensors")
    write_json(tmp_path / "model.safetensors.index.json", {"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}})
    assert list(open_directory(tmp_path)) == ["a", "b"]
    save_file({"a": torch.zeros(2)}, tmp_path / "2.safetensors")
    with pytest.raises(UserError, match=r"2\.safetensors: tensor 'a' is in another shard too"):
        open_directory(tmp_path)


def test_a_missing_truncated_or_foreign_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no model\.safetensors"):
        open_directory(tmp_path)
    with pytest.raises(UserError, match="no such file"):
        Checkpoint(tmp_path / "x")
    save_tensors(tmp_path / "x", TENSORS)
    (tmp_path / "cut").write_bytes((tmp_path / "x").read_bytes()[:-3])
    (tmp_path / "foreign").write_text("not tensors at all")
    for name in ("cut", "foreign"):
        with pytest.raises(UserError, match=f"{name}: not a whole safetensors file"):
            Checkpoint(tmp_path / name)


def test_a_file_or_directory_replaces_the_old_one_whole_or_not_at_all(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": 1})
    before = sha256(tmp_path / "x.json")

    def fail(path: Path) -> None:
        with whole_file(path) as partial:
            partial.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail(tmp_path / "x.json")
    assert sha256(tmp_path / "x.json") == before
    for content in ("first", "second"):
        with whole_directory(tmp_path / "d") as partial:
            (partial / content).write_text(content)
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["second"]

    def fail_directory(path: Path) -> None:
        with whole_directory(path) as partial:
            (partial / "third").write_text("")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_directory(tmp_path / "d")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d", "x.json"]
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["second"]
    assert read_json(tmp_path / "x.json") == {"a": 1}
