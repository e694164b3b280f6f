"""How large a suite's sources are, and from where that is known: never from the network, and from no whole file."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from tests.messages import one_sentence
from tests.plans import stale, suite_of
from twin_merging.errors import UserError
from twin_merging.io.sizes import bytes_of, human_bytes
from twin_merging.plan.rows import DEFAULT_ROWS, sliced
from twin_merging.plan.shapes import KNOWN, nearest
from twin_merging.plan.sizes import DEFAULT, DEFAULT_BASE, DEFAULT_RANK, LOCAL, LOCK, MADE, SAID, Known, Sizes
from twin_merging.suite.locks import lock_file
from twin_merging.suite.suite import Suite

ROOT = Path(__file__).parents[2]
HUB: dict[str, Any] = {"repo": "a/base", "revision": "main"}


def suite(folder: Path, **base: Any) -> Suite:
    """A suite of two tasks with this base; one expert from the Hub, one adapter that is trained here."""
    finetune = {"epochs": 1, "learning_rate": 1.0e-4, "lora": {"r": 4}}
    content = {
        "title": "Sizes",
        "base": base or {"hub": HUB},
        "limits": {"test": 7},
        "tasks": {
            "one": {
                "data": {"generate": {"task": "sentiment", "train": 50}},
                "labels": 2,
                "metric": "accuracy",
                "expert": {"hub": {"repo": "a/one"}},
            },
            "two": {
                "data": {"path": str(folder / "rows"), "splits": {"train": "train[:50%]", "test": "test[:3]"}},
                "text": ["sentence"],
                "labels": 2,
                "metric": "accuracy",
                "expert": {"finetune": finetune},
            },
        },
        "methods": {"sum": {"method": "task_arithmetic", "scaling": 0.3}},
    }
    return suite_of(folder, content)


def model(folder: Path, **config: Any) -> Path:
    """A model of 1,100 numbers in two files, of which one is in half precision."""
    folder.mkdir()
    save_file({"words": np.zeros((100, 10), np.float32)}, folder / "model-00001-of-00002.safetensors")
    save_file({"last": np.zeros((10, 10), np.float32)}, folder / "model-00002-of-00002.safetensors")
    (folder / "config.json").write_text(json.dumps({"hidden_size": 10, "num_hidden_layers": 3, **config}))
    return folder


def test_the_suites_own_figure_comes_first_then_the_lock_then_a_default(tmp_path: Path) -> None:
    plain = suite(tmp_path)
    assert Sizes.of(plain).base == Known(DEFAULT_BASE["encoder"], DEFAULT)
    hub = {**plain.content["base"]["hub"]}
    entry = {"hub": hub, "files": {"model.safetensors": "x"}, "sizes": {"model.safetensors": 1000, "config.json": 24}}
    lock_file(plain.file).write_text(json.dumps({"sources": {"base": entry}}))
    assert Sizes.of(plain).base == Known(1024, LOCK)
    said = suite(tmp_path, hub=HUB, size="15.2GB")
    assert Sizes.of(said).base == Known(15_200_000_000, SAID)


def test_a_lock_without_sizes_or_of_something_else_says_nothing(tmp_path: Path) -> None:
    plain = suite(tmp_path)
    hub = {**plain.content["base"]["hub"]}
    for entry in ({"hub": hub, "files": {}}, {"hub": {**hub, "revision": "b"}, "files": {}, "sizes": {"a": 5}}):
        lock_file(plain.file).write_text(json.dumps({"sources": {"base": entry}}))
        assert Sizes.of(plain).base.known == DEFAULT


def test_a_size_makes_nothing_stale_and_is_no_part_of_the_normal_form(tmp_path: Path) -> None:
    plain, said = suite(tmp_path), suite(tmp_path, hub=HUB, size="1GB")
    assert stale(plain, said) == set()
    assert plain.content == said.content


@pytest.mark.parametrize("size", ["15", "15 gb", "-3GB", "1e9B", "GB", ""])
def test_a_size_that_is_none_is_said_in_one_sentence(tmp_path: Path, size: str) -> None:
    with pytest.raises(UserError) as error:
        suite(tmp_path, hub=HUB, size=size)
    one_sentence(error.value, f"base.size: '{size}' is no size; write a number and a unit, as 499MB, 15.2GB or 14GiB")


@pytest.mark.parametrize(
    ("text", "count"), [("7B", 7), ("1.5 kB", 1500), ("499MB", 499_000_000), ("2KiB", 2048), ("1GiB", 2**30)]
)
def test_sizes_are_read_as_they_are_written(text: str, count: int) -> None:
    assert bytes_of(text) == count
    if "i" not in text:
        assert bytes_of(human_bytes(count)) == count


def test_a_local_model_is_known_by_the_headers_of_its_files(tmp_path: Path) -> None:
    folder = model(tmp_path / "base", vocab_size=100, num_attention_heads=4, num_key_value_heads=1)
    found = Sizes.of(suite(tmp_path, path=str(folder)))
    files = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    assert found.base == Known(files, LOCAL)
    assert (found.shape.parameters, found.shape.hidden, found.shape.layers, found.shape.inner) == (1100, 10, 3, 40)
    assert (found.shape.vocabulary, found.shape.keys, found.stored) == (100, 0.25, 4)
    assert found.body == 4400


def test_of_a_broken_local_model_its_files_sizes_are_left(tmp_path: Path) -> None:
    folder = model(tmp_path / "base")
    (folder / "model-00001-of-00002.safetensors").write_bytes(b"\x00" * 4000)
    (folder / "config.json").write_text("[")
    found = Sizes.of(suite(tmp_path, path=str(folder)))
    assert found.base.known == LOCAL
    assert found.shape.parameters == found.base.bytes // 4


def test_experts_adapters_and_rows(tmp_path: Path) -> None:
    rows = tmp_path / "rows"
    rows.mkdir()
    pd.DataFrame({"sentence": ["a"] * 40, "label": [0] * 40}).to_parquet(rows / "train.parquet")
    (rows / "validation.jsonl").write_text('{"sentence": "a", "label": 0}\n' * 9000)
    found = Sizes.of(suite(tmp_path, hub=HUB, size="499MB"))
    shape = nearest(124_750_000, decoder=False)
    assert found.shape == shape
    whole, adapter = found.experts["one"], found.experts["two"]
    assert (whole.files, whole.numbers, whole.rank) == (Known(499_000_000, DEFAULT), shape.parameters, None)
    assert (adapter.files.known, adapter.rank, adapter.numbers) == (MADE, 4, 4 * 4 * 768 * 12)
    assert found.rows["one"] == {"train": 50, "validation": 300, "test": 400}
    assert found.rows["two"] == {"train": 20, "validation": 9000, "test": 3}
    assert found.data["two"].known == LOCAL


def test_a_file_of_lines_is_not_read_whole(tmp_path: Path) -> None:
    """Of a file of 64 GB, with nothing but its first lines on the disk, rows are found by their length."""
    rows = tmp_path / "rows"
    rows.mkdir()
    line = '{"sentence": "abcd", "label": 0}\n'
    with open(rows / "train.jsonl", "w") as stream:
        stream.write(line * 4096)
        stream.truncate(2**36)
    found = Sizes.of(suite(tmp_path)).rows["two"]["train"]
    assert found == pytest.approx(2**36 / len(line) / 2, rel=0.01)


@pytest.mark.parametrize(
    ("part", "count"),
    [("", 200), ("[:10%]", 20), ("[90%:]", 20), ("[:256]", 200), ("[18%:20%]", 4), ("[-30:]", 30), ("[10:5]", 0)],
)
def test_slices_of_splits(part: str, count: int) -> None:
    assert sliced(200, part) == count


def test_rows_of_the_hub_are_a_default_with_the_slice_that_the_suite_names() -> None:
    from twin_merging.suite.suite import load_suite

    rows = Sizes.of(load_suite(ROOT / "config/suites/glue.yaml")).rows["cola"]
    assert rows == {"train": 90_000, "validation": 10_000, "test": DEFAULT_ROWS["test"]}


def test_adapters_of_the_hub_have_a_default_rank_on_all_layers_of_a_language_model() -> None:
    from twin_merging.suite.suite import load_suite

    found = Sizes.of(load_suite(ROOT / "config/suites/qwen.yaml"))
    assert found.shape.parameters == 14_150_000_000
    assert (found.stored, found.computed) == (2, 2)
    for expert in found.experts.values():
        assert expert.rank == DEFAULT_RANK
        assert expert.numbers == DEFAULT_RANK * 40 * (8 * 5120 + 3 * (5120 + 13696))


def test_known_shapes_have_about_the_numbers_that_they_say() -> None:
    for shape in KNOWN:
        kept = (2 + 2 * shape.keys) if shape.decoder else 4
        linear = 3 if shape.decoder else 2
        layers = shape.layers * (kept * shape.hidden**2 + linear * shape.hidden * shape.inner)
        tables = [shape.vocabulary * shape.hidden * copies for copies in (1, 2)]
        assert min(abs(layers + table - shape.parameters) for table in tables) < 0.2 * shape.parameters, shape


def test_sizes_ask_no_network_and_import_no_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert Sizes.of(suite(tmp_path)).base.known == DEFAULT
    code = """
import sys
from pathlib import Path
from twin_merging.plan import estimate
from twin_merging.suite.suite import load_suite
estimate.estimate(load_suite(Path(sys.argv[1])))
print(sorted({"torch", "transformers", "datasets", "huggingface_hub", "peft"} & sys.modules.keys()))
"""
    command = [sys.executable, "-c", code, str(ROOT / "config/suites/qwen.yaml")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"
