"""The longest input: one rule for features, training, statistics, answers and the library's calls."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import transformers

from tests.dense_twin import DenseLanguageModel, DenseTwin, router_of
from tests.messages import one_sentence
from tests.plans import edited, suite_of
from tests.suites import SUITE
from tests.tiny import WORDS, config_of, expert_of, tokenizer
from tests.tiny_decoders import tokenizer as decoders_tokenizer
from twin_merging import twin_merge
from twin_merging.api.answer import answer_text
from twin_merging.errors import UserError
from twin_merging.fetching.models import fetch_base
from twin_merging.finetuning.finetune import finetune
from twin_merging.io.validation import validate
from twin_merging.plan.warnings import warnings_of
from twin_merging.prediction.answers import answer_rows
from twin_merging.routing.features import extract_features
from twin_merging.task_vectors.statistics import gather_statistics
from twin_merging.tasks.classification import Classification
from twin_merging.tasks.families import training_named
from twin_merging.tasks.generation import Generation
from twin_merging.tasks.lengths import longest, table_positions, tokenised, warn_of_cut
from twin_merging.tasks.task import Longest

SIZES = {"vocab_size": 45, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
         "intermediate_size": 24, "max_position_embeddings": 40}  # fmt: skip
TABLES = {
    **dict.fromkeys(["albert", "bert", "electra", "distilbert", "xlm", "ernie", "gpt2", "gpt_bigcode", "openai-gpt",
                     "opt", "biogpt", "nystromformer", "yoso", "megatron-bert", "fnet", "rembert", "ctrl"], 40),
    **dict.fromkeys(["roberta", "xlm-roberta", "camembert", "mpnet", "longformer", "ibert", "data2vec-text",
                     "roberta-prelayernorm"], 38),
}  # fmt: skip
NO_TABLE = ["llama", "qwen2", "mistral", "stablelm", "bloom", "t5", "xlnet", "mamba"]


def made(model_type: str, **more: Any) -> Any:
    sizes = {**SIZES, **({"num_key_value_heads": 2} if model_type in ("llama", "qwen2", "mistral") else {})}
    if model_type in ("bloom", "t5", "xlnet", "mamba"):  # configurations without positions
        sizes = {"vocab_size": 45, "num_hidden_layers": 1}
    return transformers.CONFIG_MAPPING[model_type](**{**sizes, **more})


@pytest.mark.parametrize("model_type", TABLES)
def test_positions_are_as_many_as_the_model_takes(model_type: str) -> None:
    """One token more fails in the model itself."""
    config = made(model_type)
    count = table_positions(config)
    assert count == TABLES[model_type]
    torch.manual_seed(0)
    body = transformers.AutoModel.from_config(config).eval()
    with torch.no_grad():
        body(input_ids=torch.randint(5, 44, (1, count)))
        with pytest.raises((RuntimeError, IndexError)):
            body(input_ids=torch.randint(5, 44, (1, count + 1)))


@pytest.mark.parametrize("model_type", NO_TABLE)
def test_positions_that_are_computed_have_no_table(model_type: str) -> None:
    assert table_positions(made(model_type)) is None


def test_a_vocabulary_as_large_as_the_positions_is_no_table() -> None:
    assert table_positions(made("llama", vocab_size=40, pad_token_id=7)) is None
    assert table_positions(made("roberta", vocab_size=40)) == 38


def limited(length: int | None) -> Any:
    own = tokenizer()
    own.model_max_length = length or int(1e30)
    return own


@pytest.mark.parametrize(
    ("asked", "model_type", "limit", "wanted", "why"),
    [
        (20, "roberta", None, 20, "inference.max_length is 20"),
        (38, "roberta", None, 38, "inference.max_length is 38"),
        (128, "roberta", None, 38, "the model has 38 positions"),
        (128, "bert", None, 40, "the model has 40 positions"),
        (128, "llama", None, 40, "the model has 40 positions"),
        (128, "bert", 30, 30, "the tokenizer's model_max_length is 30"),
        (128, "bert", 512, 40, "the model has 40 positions"),
        (128, "bloom", None, 128, "inference.max_length is 128"),
        (128, "t5", 64, 64, "the tokenizer's model_max_length is 64"),
        (None, "gpt2", None, 40, "the model has 40 positions"),
    ],
)
def test_the_least_limit_is_taken_and_named(
    asked: int | None, model_type: str, limit: int | None, wanted: int, why: str
) -> None:
    found = longest(asked, made(model_type), limited(limit))
    assert (found.tokens, found.why) == (wanted, why)


@pytest.mark.parametrize(("model_type", "wanted"), [("gpt2", 31), ("opt", 31), ("llama", 31), ("qwen2", 31)])
def test_what_is_written_needs_positions_too(model_type: str, wanted: int) -> None:
    assert longest(128, made(model_type), limited(None), new=9).tokens == wanted


# -- rows


@pytest.mark.parametrize("columns", [("one",), ("one", "two")])
def test_rows_are_cut_as_transformers_cuts_them_and_counted(
    columns: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    texts = {"one": ["w1 w2 w3", "w1 " * 30, "w2", "w3 " * 11], "two": ["w4", "w5 " * 9, "w6 " * 30, "w7"]}
    chosen = [texts[column] for column in columns]
    found = tokenised(tokenizer(), chosen, Longest(12, "the model has 12 positions"))
    wanted = tokenizer()(*chosen, truncation=True, max_length=12)
    assert [row.features["input_ids"] for row in found] == wanted["input_ids"]
    cut = [len(ids) > 12 for ids in tokenizer()(*chosen)["input_ids"]]
    assert [row.is_cut for row in found] == cut
    warn_of_cut("reviews", found, Longest(12, "the model has 12 positions"))
    said = f"task reviews: {sum(cut)} of 4 rows are longer than 12 tokens and were cut: the model has 12 positions"
    assert caplog.messages == [said]
    warn_of_cut("reviews", tokenised(tokenizer(), chosen, Longest(99, "")), Longest(99, ""))
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("tokens", [1, 2])
def test_a_limit_that_has_no_room_for_a_text_is_refused(tokens: int) -> None:
    with pytest.raises(UserError) as caught:
        tokenised(tokenizer(), [["w1"]], Longest(tokens, f"inference.max_length is {tokens}", "raise it"))
    one_sentence(caught.value, f"inference.max_length is {tokens}", "2 are special", "raise it")


# -- the stages


@pytest.fixture(params=["roberta", "bert"])
def given(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """A base, an expert, and rows of which half are longer than the base's positions."""
    kind = request.param
    torch.manual_seed(0)
    body = transformers.AutoModel.from_config(config_of(kind))
    body.save_pretrained(tmp_path / "base")
    expert_of(body, kind, 2, 1).save_pretrained(tmp_path / "expert")
    tokenizer().save_pretrained(tmp_path / "base")
    (tmp_path / "reviews").mkdir()
    for split in ("train", "validation", "test"):
        texts = [" ".join(WORDS[row % 9 : row % 9 + 3] * (20 if row % 2 else 1)) for row in range(12)]
        rows = pd.DataFrame({"sentence": texts, "label": [row // 2 % 2 for row in range(12)]})
        rows.to_parquet(tmp_path / "reviews" / f"{split}.parquet")
    return kind, tmp_path


TASK = {"text": ["sentence"], "labels": 2, "metric": "accuracy"}
POSITIONS = {"roberta": 38, "bert": 40}


def cut_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line for line in caplog.messages if "were cut" in line]


def test_features_are_of_what_the_model_takes(given: tuple[str, Path], caplog: pytest.LogCaptureFixture) -> None:
    kind, root = given
    extract_features(
        shared=root / "base",
        data={"reviews": root / "reviews"},
        tasks={"reviews": validate(Classification, TASK)},
        limits={"router": None, "validation": None},
        inference={"max_length": 512, "batch_size": 5},
        features="last",
        output=root / "features",
    )
    said = f"task reviews: 12 of 24 rows are longer than {POSITIONS[kind]} tokens and were cut: the model has "
    assert [line.startswith(said) for line in cut_lines(caplog)] == [True]


def test_statistics_are_of_what_the_model_takes(given: tuple[str, Path], caplog: pytest.LogCaptureFixture) -> None:
    kind, root = given
    task = validate(Classification, TASK)
    train = root / "reviews" / "train.parquet"
    gather_statistics("gram-matrices", root / "base", root / "expert", train, task, 12, 128, root / "out")
    assert cut_lines(caplog)[0].startswith(f"task reviews: 6 of 12 rows are longer than {POSITIONS[kind]} tokens")


def test_an_expert_is_trained_on_what_the_base_takes(given: tuple[str, Path], caplog: pytest.LogCaptureFixture) -> None:
    kind, root = given
    settings = {"epochs": 1, "learning_rate": 1e-3, "batch_size": 4, "weight_decay": 0.0, "warmup": 0.0}
    task, base = validate(Classification, TASK), root / "fetched"
    fetch_base({"path": str(root / "base")}, base)
    for length, wanted in ((128, POSITIONS[kind]), (20, 20)):
        caplog.clear()
        given_settings = {**settings, "max_length": length}
        training, out = training_named("encoder"), root / "out"
        finetune(base, root / "reviews", task, training, given_settings, {}, 0, root / "kept", out)
        assert cut_lines(caplog)[0].startswith(f"task reviews: 12 of 24 rows are longer than {wanted} tokens")
    assert "finetune.max_length is 20" in cut_lines(caplog)[0]


@pytest.mark.parametrize("kind", ["roberta", "bert", "electra"])
def test_answers_are_of_what_the_model_takes(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = DenseTwin(kind, "strict", 0.25).twin(router_of(config_of(kind).hidden_size))
    tokenizer().save_pretrained(tmp_path)
    rows = {task: pd.DataFrame({"sentence": ["w1 w2", "w3 " * 70], "label": [0, 1]}) for task in model.tasks}
    tasks: dict[str, Any] = {task: validate(Classification, TASK) for task in model.tasks}
    found = answer_rows(model, tmp_path, rows, tasks, {"max_length": 128, "batch_size": 4}, "oracle")
    limit = POSITIONS.get(kind, 40)
    alone = answer_rows(model, tmp_path, rows, tasks, {"max_length": limit, "batch_size": 1}, "oracle")
    for one, other in zip(found, alone, strict=True):
        torch.testing.assert_close(one.answer, other.answer, rtol=1e-4, atol=1e-5)
    said = [f"task {task}: 1 of 2 rows are longer than {limit} tokens and were cut" for task in model.tasks]
    assert [line.rpartition(":")[0] for line in cut_lines(caplog)[:3]] == said


@pytest.mark.parametrize("model_type", ["gpt2", "llama"])
def test_a_prompt_is_never_cut(model_type: str, tmp_path: Path) -> None:
    dense = DenseLanguageModel(model_type, 0.25)
    model = dense.twin(router_of(dense.config.hidden_size))
    decoders_tokenizer().save_pretrained(tmp_path)
    view = {"prompt": "{word}", "metric": "exact_match", "generation": {"max_new_tokens": 6}}
    tasks: dict[str, Any] = {"a": validate(Generation, view)}
    inference = {"max_length": 128, "batch_size": 2}

    def answered(words: int) -> int:
        rows = {"a": pd.DataFrame({"word": ["w1", " ".join(["w2"] * words)], "answer": ["w1", "w2"]})}
        return len(answer_rows(model, tmp_path, rows, tasks, inference, "routed"))

    fits = 34  # of 40 positions, which are for what is written too
    assert answered(fits) == 2
    with pytest.raises(UserError) as caught:
        answered(fits + 1)
    one_sentence(
        caught.value, "row 1: its prompt", f"has {fits + 1} tokens", "the model has 40 positions", "shorten it"
    )


# -- the library's calls


def test_twin_merge_cuts_texts_of_classifiers_and_says_so(
    given: tuple[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    kind, root = given
    texts: dict[str, Any] = {"a": ["w1 w2", "w3 " * 70, "w4"] * 4, "b": [("w5 w6", "w7 " * 50), ("w8", "w9")] * 5}
    experts = {"a": root / "expert", "b": root / "expert"}
    twin_merge(
        base=root / "base", experts=experts, texts=texts, output=root / "out", rank=1, router={"kind": "mahalanobis"}
    )
    limit = POSITIONS[kind]
    assert [line.partition(" and were")[0] for line in cut_lines(caplog)] == [
        f"task a: 4 of 12 rows are longer than {limit} tokens",
        f"task b: 5 of 10 rows are longer than {limit} tokens",
    ]
    caplog.clear()
    answer = answer_text(root / "out", "w1 " * 200)
    assert answer.probabilities is not None
    assert f"the text is longer than {limit} tokens and was cut: the model has {limit} positions" in caplog.messages


@pytest.mark.parametrize("model_type", ["gpt2", "llama"])
def test_twin_merge_refuses_prompts_that_are_too_long(model_type: str, tmp_path: Path) -> None:
    dense = DenseLanguageModel(model_type, 0.25)
    dense.shared.save_pretrained(tmp_path / "base")
    decoders_tokenizer().save_pretrained(tmp_path / "base")
    experts = {}
    for task in dense.tasks[:2]:
        dense.experts[task].save_pretrained(tmp_path / task)
        experts[task] = tmp_path / task
    texts = {task: ["w1 w2", "w3", "w4 " * 41] for task in experts}
    with pytest.raises(UserError) as caught:
        twin_merge(base=tmp_path / "base", experts=experts, texts=texts, output=tmp_path / "out", rank=1)
    one_sentence(caught.value, f"'{dense.tasks[0]}': text 2 has 41 tokens", "the model has 40 positions")
    assert not (tmp_path / "out").exists()


def test_a_language_model_writes_as_far_as_its_positions_go(tmp_path: Path) -> None:
    dense = DenseLanguageModel("gpt2", 0.25)
    dense.twin(router_of(dense.config.hidden_size)).save_pretrained(tmp_path)
    decoders_tokenizer().save_pretrained(tmp_path)
    answer_text(tmp_path, "w1 " * 36, max_new_tokens=64)
    answer_text(tmp_path, "w1 " * 39, max_new_tokens=64)
    with pytest.raises(UserError) as caught:
        answer_text(tmp_path, "w1 " * 40)
    one_sentence(caught.value, "the text has 40 tokens", "40 positions")


# -- before the first job


@pytest.mark.parametrize(
    ("config", "own", "limit"),
    [
        ({"max_position_embeddings": 64}, {}, 64),
        ({"max_position_embeddings": 512}, {"model_max_length": 100}, 100),
        ({"n_positions": 96, "n_embd": 8}, {"model_max_length": 10**30}, 96),
        ({"n_positions": 32, "d_model": 8}, {}, None),  # T5's say nothing
        ({"max_position_embeddings": 514}, {"model_max_length": 512}, None),
        ({"max_position_embeddings": -1}, {}, None),
    ],
)
def test_a_suite_that_asks_for_more_than_the_base_takes_is_warned_of(
    config: dict[str, int], own: dict[str, int], limit: int | None, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text(json.dumps(config))
    (base / "tokenizer_config.json").write_text(json.dumps(own))
    found = warnings_of(suite_of(tmp_path, edited(SUITE, {"base": {"path": str(base)}})))
    if limit is None:
        assert found == []
        return
    (line,) = found
    assert line.startswith(f"{tmp_path}/mine.yaml: inference.max_length: 128")
    assert f"the base in {base} takes {limit} tokens at most" in line
    shorter = edited(SUITE, {"base": {"path": str(base)}, "inference": {"max_length": 40}})
    assert [line for line in warnings_of(suite_of(tmp_path, shorter)) if "inference.max_length" in line] == []


@pytest.mark.parametrize("content", ["", "[]", "<html>", '{"max_position_embeddings": "many"}'])
def test_a_configuration_that_says_nothing_is_left_to_the_fetch(content: str, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text(content)
    assert warnings_of(suite_of(tmp_path, edited(SUITE, {"base": {"path": str(tmp_path / "base")}}))) == []


def test_warnings_are_for_people(caplog: pytest.LogCaptureFixture) -> None:
    warn_of_cut("t", tokenised(tokenizer(), [["w1 " * 9]], Longest(4, "x")), Longest(4, "x"))
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
