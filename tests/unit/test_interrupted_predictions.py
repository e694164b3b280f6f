"""A prediction that was interrupted goes on from the batches that it had answered, and writes the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet
import pytest

from tests.dense_twin import DenseLanguageModel, DenseTwin, router_of
from tests.tiny import tokenizer as encoders_tokenizer
from tests.tiny_decoders import tokenizer
from twin_merging.io.files import read_json
from twin_merging.io.validation import validate
from twin_merging.model.twin import TwinModel
from twin_merging.prediction import parts
from twin_merging.prediction.parts import Parts
from twin_merging.prediction.predict import predict
from twin_merging.tasks import classification, generation

FAMILIES = {"encoder": classification.FAMILY, "decoder": generation.FAMILY}
BATCHES = 9  # of 4 rows, of 12 a task; rows that may be given other numbers of tokens lie in other batches


def make(family: str, folder: Path) -> None:
    """A merged model with a router, its tokenizer, and 12 test rows of each of its three tasks."""
    dense: Any = DenseTwin("bert", "strict", 0.25) if family == "encoder" else DenseLanguageModel("llama", 0.5)
    dense.twin(router_of(16, top_k=1)).save_pretrained(folder / "model")
    (encoders_tokenizer() if family == "encoder" else tokenizer()).save_pretrained(folder / "model")
    for number, task in enumerate("abc"):
        (folder / task).mkdir()
        texts = [" ".join(f"w{(7 * row + number + place) % 40}" for place in range(row % 5 + 1)) for row in range(12)]
        columns = {"sentence": texts, "label": [0] * 12, "answer": texts}
        pd.DataFrame(columns).to_parquet(folder / task / "test.parquet", index=False)


def views(family: str) -> dict[str, Any]:
    if family == "encoder":
        return {
            task: validate(FAMILIES[family].answers, {"labels": labels})
            for task, labels in zip("abc", (2, 3, 1), strict=True)
        }
    told = [{"max_new_tokens": 4, "stop": ["w5"]}, {"max_new_tokens": 2}, {"max_new_tokens": 2}]
    content = {"prompt": "{sentence} after"}
    return {
        task: validate(FAMILIES[family].answers, {**content, "generation": own})
        for task, own in zip("abc", told, strict=True)
    }


def answer(family: str, folder: Path, output: str, kept: Parts | None = None, most: int = 99) -> int:
    """Predict, but for `most` batches at most; how many batches the model answered."""
    model: Any = TwinModel.from_pretrained(folder / "model")
    done = 0

    def counted(*arguments: Any) -> Any:
        nonlocal done
        if done == most:
            raise KeyboardInterrupt
        done += 1
        return type(model).answer_batch(model, *arguments)

    model.answer_batch = counted
    predict(
        model,
        folder / "model",
        data={task: folder / task for task in "abc"},
        tasks=views(family),
        limit=None,
        inference={"max_length": 32, "batch_size": 4},
        head="routed",
        output=folder / output,
        columns=FAMILIES[family].columns,
        parts=kept,
    )
    return done


def of_key(folder: Path, key: str) -> Parts:
    """Parts that are written with every batch."""
    return Parts(folder / "checkpoints" / "predict-twin", lambda: key, clock=iter(range(0, 10**6, 60)).__next__)


@pytest.mark.parametrize("family", FAMILIES)
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
