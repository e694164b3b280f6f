"""A prediction that was interrupted goes on from the batches that it had answered, and writes the same bytes."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow.parquet
import pytest

from tests.predicting import BATCHES, answer, make
from twin_merging.io.files import read_json
from twin_merging.prediction import parts
from twin_merging.prediction.parts import Parts


def of_key(folder: Path, key: str) -> Parts:
    """Parts that are written with every batch."""
    return Parts(folder / "checkpoints" / "predict-twin", lambda: key, clock=iter(range(0, 10**6, 60)).__next__)


@pytest.mark.parametrize("family", ["encoder", "decoder"])
def test_an_interrupted_prediction_goes_on_and_writes_the_same_bytes(family: str, tmp_path: Path) -> None:
    make(family, tmp_path)
    assert answer(family, tmp_path, "whole.parquet") == BATCHES
    with pytest.raises(KeyboardInterrupt):
        answer(family, tmp_path, "again.parquet", of_key(tmp_path, "key"), 3)
    folder = tmp_path / "checkpoints" / "predict-twin"
    assert sorted(file.name for file in folder.iterdir()) == ["0.json", "1.json", "2.json", "key.json"]
    assert not (tmp_path / "again.parquet").exists()
    assert answer(family, tmp_path, "again.parquet", of_key(tmp_path, "key")) == BATCHES - 3
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_parts_of_another_job_are_removed_and_those_that_no_job_could_read_too(tmp_path: Path) -> None:
    make("decoder", tmp_path)
    answer("decoder", tmp_path, "whole.parquet")
    with pytest.raises(KeyboardInterrupt):
        answer("decoder", tmp_path, "again.parquet", of_key(tmp_path, "one"), 4)
    part = tmp_path / "checkpoints" / "predict-twin" / "0.json"
    assert {*read_json(part)["0"][0]} == {"output", "tokens", "finish", "likelihoods", "weights"}
    assert len(of_key(tmp_path, "one").batches) == 4
    assert of_key(tmp_path, "another").batches == {}
    assert not part.parent.exists()
    part.parent.mkdir()
    part.write_text("{}")
    assert of_key(tmp_path, "one").batches == {}
    assert answer("decoder", tmp_path, "again.parquet", of_key(tmp_path, "one")) == BATCHES
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_a_job_that_takes_little_time_writes_no_part_and_asks_for_no_key(tmp_path: Path) -> None:
    def key() -> str:
        raise AssertionError

    now = [0.0]
    kept = Parts(tmp_path / "parts", key, clock=lambda: now[0])
    for number in range(5):
        now[0] += parts.EVERY / 6
        kept.add(number, [{"output": number}])
    assert not (tmp_path / "parts").exists()
    now[0] += parts.EVERY / 6
    with pytest.raises(AssertionError):
        kept.add(5, [{"output": 5}])


def test_columns_of_language_models_have_one_type_in_every_file(tmp_path: Path) -> None:
    make("decoder", tmp_path)
    answer("decoder", tmp_path, "whole.parquet")
    schema = pyarrow.parquet.read_schema(tmp_path / "whole.parquet")
    assert schema.names == ["task", "row", "output", "reference", "weights", "tokens", "finish", "likelihoods"]
    kinds = {
        name: str(schema.field(name).type).replace("element", "item")
        for name in ("weights", "tokens", "finish", "likelihoods")
    }
    assert kinds == {
        "weights": "list<item: double>",
        "tokens": "list<item: int64>",
        "finish": "string",
        "likelihoods": "list<item: double>",
    }
    table = pd.read_parquet(tmp_path / "whole.parquet")
    assert set(table["finish"]) == {"end", "length"}
    assert table["likelihoods"].isna().all()
    assert (table["tokens"].map(len) <= table["task"].map({"a": 4, "b": 2, "c": 2})).all()
