"""The audit asks a language model about each answer that it wrote, and finds what was changed in its predictions."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.dense_twin import DenseLanguageModel, router_of
from tests.tiny import WORDS
from tests.tiny_decoders import tokenizer
from twin_merging.auditing.prediction_checks import check_predictions
from twin_merging.auditing.provenance import FORMAT
from twin_merging.auditing.results import Results
from twin_merging.io.files import write_json
from twin_merging.prediction.predict import load_merged, predict
from twin_merging.tasks.generation import FAMILY

TASKS = {
    "a": {"prompt": "{word} after", "generation": {"max_new_tokens": 4, "stop": ["w1"]}},
    "b": {"prompt": "{word}", "options": "options", "answer": "likelihood"},
    "c": {"prompt": "{word} {word}", "generation": {"max_new_tokens": 3}},
}
ROWS = 9


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a suite of which one model has answered: two tasks write, of one the likeliest option counts."""
    folder = tmp_path_factory.mktemp("results")
    model = folder / "tiny/models/twin"
    DenseLanguageModel("llama", 0.5).twin(router_of(16)).save_pretrained(model)
    tokenizer().save_pretrained(model)
    for number, task in enumerate(TASKS):
        (folder / "tiny/data" / task).mkdir(parents=True)
        words = [WORDS[(number + 3 * row) % len(WORDS)] for row in range(ROWS)]
        options = [[f"{word} w{row}", "w7", "w8 w9 w10"][: 2 + row % 2] for row, word in enumerate(words)]
        table = pd.DataFrame({"word": words, "answer": words, "options": options})
        if task == "b":
            table["answer"] = ["w7"] * ROWS
        table.to_parquet(folder / "tiny/data" / task / "test.parquet", index=False)
    settings: dict[str, Any] = {
        "merged": True,
        "body": None,
        "head": "routed",
        "family": "decoder",
        "tasks": TASKS,
        "limit": None,
        "inference": {"max_length": 32, "batch_size": 4},
        "dtype": request.param,
    }
    data = {task: folder / "tiny/data" / task for task in TASKS}
    predict(
        load_merged(model, request.param),
        model,
        data,
        FAMILY.views(FAMILY.answers, TASKS, data),
        settings["limit"],
        settings["inference"],
        settings["head"],
        folder / "tiny/predictions/twin.parquet",
        FAMILY.columns,
    )
    job = {"name": "predict/twin", "rule": "predict", "wildcards": {"model": "twin"}, "settings": settings}
    jobs = [{**job, "inputs": {}, "outputs": {}, "output": {}}]
    write_json(folder / "tiny/provenance.json", {"format": FORMAT, "jobs": jobs, "models": {}, "suite": {}})
    return folder


def token(table: Any) -> str:
    tokens = table.at[1, "tokens"].copy()
    tokens[0] = 5 + (tokens[0] - 5 + 7) % len(WORDS)
    table.at[1, "tokens"] = tokens
    return f"task a, row 1: token 1 of {len(tokens)}, {tokens[0]}, is written"


def text(table: Any) -> str:
    table.loc[2 * ROWS, "output"] = "w1 w1"
    return "task c, row 0: output 'w1 w1' is written, its tokens are"


def likelihood(table: Any) -> str:
    scores = table.at[ROWS, "likelihoods"].copy()
    scores[0] *= 1.2
    table.at[ROWS, "likelihoods"] = scores
    return "task b, row 0: likelihood 1 of 2 is"


def option(table: Any) -> str:
    table.loc[ROWS, "output"] = {"w7": "w8"}.get(table.loc[ROWS, "output"], "w7")
    return "task b, row 0: output"


def finish(table: Any) -> str:
    table.loc[2 * ROWS, "finish"] = "stop"
    return "task c, row 0: finish 'stop' is written, its tokens end by 'length'"


def reference(table: Any) -> str:
    table.at[3, "reference"] = [*table.at[3, "reference"], "w1"]
    return "task a, row 3: reference ["


def weights(table: Any) -> str:
    table.at[4, "weights"] = table.at[4, "weights"][[1, 2, 0]]
    return "task a, row 4: the router's weights"


def test_what_a_model_answered_agrees_with_it(made: Path) -> None:
    table = pd.read_parquet(made / "tiny/predictions/twin.parquet")
    assert table["task"].tolist() == [task for task in TASKS for _ in range(ROWS)]
    assert table.loc[table["task"] == "b", "likelihoods"].map(len).tolist() == [2, 3, 2, 3, 2, 3, 2, 3, 2]
    assert table["tokens"].isna().tolist() == [task == "b" for task in table["task"]]
    found = check_predictions(Results(made, "tiny"))
    assert found.failures == []
    assert f"{3 * ROWS} predictions of 1 models recomputed" in found.summary


@pytest.mark.parametrize("change", [token, text, likelihood, option, finish, reference, weights])
def test_a_changed_answer_is_found_and_named(made: Path, tmp_path: Path, change: Callable[[Any], str]) -> None:
    shutil.copytree(made, tmp_path / "results")
    file = tmp_path / "results/tiny/predictions/twin.parquet"
    table = pd.read_parquet(file)
    wanted = change(table)
    table.to_parquet(file, index=False)
    found = check_predictions(Results(tmp_path / "results", "tiny"))
    assert found.failures[0].startswith(f"results/tiny/predictions/twin.parquet: {wanted}")
    assert {failure.partition("row ")[2].partition(":")[0] for failure in found.failures} == {
        wanted.partition("row ")[2].partition(":")[0]
    }
