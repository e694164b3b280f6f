"""Scores over the plane of two tasks' weights, held against models that are merged anew at every point."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import torch

from tests.dense_twin import LABELS, DenseLanguageModel, DenseTwin, mixed_batch, router_of
from tests.tiny import sentences, tokenizer
from twin_merging.prediction.plane import score_plane
from twin_merging.routing.fixed import GivenWeights
from twin_merging.tasks.families import family_named

PAIR, ROWS = ("b", "a"), 12
METRICS = {"a": "accuracy", "b": "matthews_correlation"}


def make_data(root: Path) -> dict[str, Path]:
    """More validation rows of two tasks than are asked for; no other split."""
    for seed, task in enumerate(PAIR):
        (root / task).mkdir(parents=True)
        table = sentences(seed, ROWS + 5, LABELS[task], ("sentence",))
        table.to_parquet(root / task / "validation.parquet")
    tokenizer().save_pretrained(root / "tokenizer")
    return {task: root / task for task in PAIR}


def dense_outputs(dense: DenseTwin, data: dict[str, Path], root: Path, task: str, weights: list[float]) -> list[float]:
    """What a model that is merged for these weights answers to a task's rows, one at a time."""
    rows = pd.read_parquet(data[task] / "validation.parquet").head(ROWS)
    model, encode = dense.merged(torch.tensor(weights), task), tokenizer()
    with torch.no_grad():
        found = [model(**encode(text, return_tensors="pt")).logits[0] for text in rows["sentence"]]
    return [float(logits[: LABELS[task]].argmax()) for logits in found]


def test_every_point_is_that_of_a_model_merged_with_its_weights(tmp_path: Path) -> None:
    dense, data = DenseTwin("roberta", "reference", fraction=1.0), make_data(tmp_path)
    family, output = family_named("encoder"), tmp_path / "plane" / "twin.csv"
    told = {task: {"text": ["sentence"], "labels": LABELS[task]} for task in PAIR}
    score_plane(
        dense.twin(router_of(16)),
        tokenizer=tmp_path / "tokenizer",
        data=data,
        tasks=family.views(family.answers, told, data),
        pair=PAIR,
        grid=[-0.5, 0.0, 1.0],
        limit=ROWS,
        inference={"max_length": 16, "batch_size": 5},
        metrics=METRICS,
        output=output,
    )
    table = pd.read_csv(output)
    assert list(table.columns) == ["a", "b", "task", "score", "rows"]
    assert len(table) == 3 * 3 * 2
    assert set(table["rows"]) == {ROWS}
    for line in table.to_dict("records"):
        weights = [{PAIR[0]: line["a"], PAIR[1]: line["b"]}.get(task, 0.0) for task in LABELS]
        outputs = dense_outputs(dense, data, tmp_path, line["task"], weights)
        right = pd.read_parquet(data[line["task"]] / "validation.parquet").head(ROWS)["label"].tolist()
        assert abs(line["score"] - wanted(METRICS[line["task"]], outputs, right)) < 1e-3
    assert table["score"].nunique() > 3, "the weights change what is answered"


def wanted(metric: str, outputs: list[float], right: list[int]) -> float:
    from sklearn.metrics import accuracy_score, matthews_corrcoef

    functions: dict[str, Any] = {"accuracy": accuracy_score, "matthews_correlation": matthews_corrcoef}
    return 100 * float(functions[metric](right, outputs))


def test_the_weights_of_a_language_model_are_given_too() -> None:
    dense = DenseLanguageModel("llama", fraction=1.0)
    batch, _, _ = mixed_batch(left=True)
    given = torch.tensor([0.0, -0.5, 1.5])
    model = dense.twin(GivenWeights(dense.tasks, {"c": 1.5, "b": -0.5}))
    with torch.no_grad():
        found, explicit = model(**batch), dense.twin()(**batch, weights=given.expand(len(batch["input_ids"]), -1))
    assert torch.equal(found.weights, given.expand(len(batch["input_ids"]), -1))
    assert torch.allclose(found.logits, explicit.logits, atol=1e-6)
