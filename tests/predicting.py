"""Predictions of tiny merged models, whole, interrupted, or in shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from tests.dense_twin import DenseLanguageModel, DenseTwin, router_of
from tests.tiny import tokenizer as encoders_tokenizer
from tests.tiny_decoders import tokenizer
from twin_merging.io.validation import validate
from twin_merging.model.twin import TwinModel
from twin_merging.prediction.parts import Parts
from twin_merging.prediction.predict import predict
from twin_merging.prediction.shards import Shard
from twin_merging.tasks import classification, generation

FAMILIES = {"encoder": classification.FAMILY, "decoder": generation.FAMILY, "options": generation.FAMILY}
BATCHES = 9  # of 4 rows, of 12 a task; rows that may be given other numbers of tokens lie in other batches


def make(family: str, folder: Path) -> None:
    """A merged model with a router, its tokenizer, and 12 test rows of each of its three tasks."""
    dense: Any = DenseTwin("bert", "strict", 0.25) if family == "encoder" else DenseLanguageModel("llama", 0.5)
    dense.twin(router_of(16, top_k=1)).save_pretrained(folder / "model")
    (encoders_tokenizer() if family == "encoder" else tokenizer()).save_pretrained(folder / "model")
    for number, task in enumerate("abc"):
        (folder / task).mkdir()
        texts = [" ".join(f"w{(7 * row + number + place) % 40}" for place in range(row % 5 + 1)) for row in range(12)]
        options = [[f"w{row}", *[f"w{row + 1} w{row}"] * (row % 2), "w30"] for row in range(12)]
        answers = [own[0] for own in options] if family == "options" else texts
        columns = {"sentence": texts, "label": [0] * 12, "answer": answers, "options": options}
        pd.DataFrame(columns).to_parquet(folder / task / "test.parquet", index=False)


def views(family: str) -> dict[str, Any]:
    if family == "encoder":
        return {
            task: validate(FAMILIES[family].answers, {"labels": labels})
            for task, labels in zip("abc", (2, 3, 1), strict=True)
        }
    if family == "options":  # two tasks that write, and one whose options are scored
        scored = {"prompt": "{sentence}", "options": "options", "answer": "likelihood"}
        return {**views("decoder"), "b": validate(FAMILIES[family].answers, scored)}
    told = [{"max_new_tokens": 4, "stop": ["w5"]}, {"max_new_tokens": 2}, {"max_new_tokens": 2}]
    content = {"prompt": "{sentence} after"}
    return {
        task: validate(FAMILIES[family].answers, {**content, "generation": own})
        for task, own in zip("abc", told, strict=True)
    }


def answer(
    family: str, folder: Path, output: str, kept: Parts | None = None, most: int = 99, shard: Shard | None = None
) -> int:
    """Predict, all or a shard, but for `most` batches at most; how many batches the model answered."""
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
        shard=shard,
    )
    return done
