"""Families of tasks: what each stage is told of a language model's task, and what is refused for its family."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from tests.messages import one_sentence
from tests.plans import REMOVED, edited, stale, suite_of
from tests.tiny_decoders import make_decoder_suite, tokenizer, written
from twin_merging import TwinModel, UserError, merge
from twin_merging.api.answer import answer_text
from twin_merging.fetching.models import fetch_adapter, fetch_base, fetch_expert
from twin_merging.io.validation import validate
from twin_merging.io.weights import open_directory
from twin_merging.model.forms import FORMS
from twin_merging.model.twin import class_of
from twin_merging.plan.settings_scores import true_task
from twin_merging.scoring.metrics import METRICS, score
from twin_merging.suite.suite import Suite, load_suite
from twin_merging.tasks.families import KINDS, MODULES, family_named, whole_model
from twin_merging.tasks.generation import Ending, Generation
from twin_merging.tasks.task import Longest

TASK = {"prompt": "{word} and {other}:", "target": "reply", "metric": "exact_match"}
ROWS = pd.DataFrame({"word": ["w1", 7], "other": ["w2 w3", "{word}"], "reply": [" w4 ", 2]})
LANGUAGE = whole_model("decoder")


def test_each_family_is_known_everywhere() -> None:
    assert [*MODULES] == [*KINDS] == [*FORMS]
    for name in MODULES:
        family = family_named(name)
        assert family.name == name
        assert class_of(name).form is FORMS[name]
        inputs, rows, answers, task = (
            set(view.model_fields) for view in (family.inputs, family.rows, family.answers, family.task)
        )
        assert inputs <= rows & answers
        assert task - (rows | answers) == {"metric"}
    with pytest.raises(ValueError, match="unknown family 'encodr'"):
        family_named("encodr")


def test_a_prompt_is_the_template_with_a_rows_values() -> None:
    task = validate(Generation, TASK)
    assert task.texts(ROWS) == ["w1 and w2 w3:", "7 and {word}:"]
    assert (task.columns, task.needed) == (("word", "other"), ("word", "other", "reply"))
    assert task.references(ROWS).tolist() == [["w4"], ["2"]]
    encoded = task.encode(ROWS.head(1), tokenizer(), Longest(4, "four"))
    assert dict(encoded[0].features) == {"input_ids": [6, 3, 7, 3], "attention_mask": [1] * 4}
    with pytest.raises(UserError) as caught:
        task.encode(ROWS.iloc[[1, 0]].set_index(pd.Index([5, 9])), tokenizer(), Longest(3, "inference.max_length is 3"))
    one_sentence(caught.value, "row 9", "4 tokens", "inference.max_length is 3")


def test_an_answer_ends_at_the_first_text_that_ends_it() -> None:
    ending = Ending(max_new_tokens=3, stop=("\n", " so"))
    assert ending.cut(" yes so\nno") == "yes"
    assert ending.cut(" yes ") == "yes"
    assert ending.cut("\nyes") == ""


def test_exact_match_is_the_share_of_equal_texts() -> None:
    assert score("exact_match", ["a", "", "B", "7"], ["a", "", "b", "7.0"]) == 0.5
    assert "exact_match" in METRICS


# -- suites


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base/, experts/, data/ and a suite of language models with untied output layers."""
    root = tmp_path_factory.mktemp("made")
    make_decoder_suite(root, tied=False)
    return root


FEATURES = ("route_features(task-arithmetic/last)",)
CHANGES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "a prompt": (
        {"tasks/next/prompt": "after {word} after"},
        {"fetch_data(next)", "route_features(task-arithmetic/last)", "predict(*)"},
    ),
    "a column of answers": ({"tasks/next/target": "other"}, {"fetch_data(next)", "predict(*)"}),
    "a column of answers that examples show": (
        {"tasks/echo/target": "other"},
        {"fetch_data_with_shots(echo)", *FEATURES, "predict(*)"},
    ),
    "a default written out": (
        {"tasks/next/target": "answer", "tasks/next/prompt": {"text": "after {word}", "seed": 3}},
        set(),
    ),
    "fewer examples": ({"tasks/echo/prompt/shots": 1}, {"fetch_data_with_shots(echo)", *FEATURES, "predict(*)"}),
    "another draw of examples": (
        {"tasks/echo/prompt/seed": 1},
        {"fetch_data_with_shots(echo)", *FEATURES, "predict(*)"},
    ),
    "the split that examples are drawn from": (
        {"tasks/echo/data/splits": {"shots": "validation"}},
        {"fetch_data_with_shots(echo)"},
    ),
    "no split of examples": ({"tasks/echo/data/splits": REMOVED}, {"fetch_data(echo)"}),
    "no examples": ({"tasks/echo/prompt/shots": 0}, {"fetch_data(echo)", *FEATURES, "predict(*)"}),
    "a text that ends answers": ({"tasks/next/generation": {"max_new_tokens": 2, "stop": ["w2"]}}, {"predict(*)"}),
    "an answer's length": ({"tasks/next/generation": {"max_new_tokens": 3}}, {"predict(*)"}),
    "other test rows": ({"limits/sample": "helm"}, {"predict(*)"}),
    "a metric": ({"tasks/next/metric": "quasi_exact_match"}, {"score()", "intervals()"}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_a_task_makes_exactly_these_settings_others(made: Path, tmp_path: Path, change: str) -> None:
    edits, wanted = CHANGES[change]
    shots = {"tasks/echo/prompt": {"text": "{word} {other} after", "shots": 2}}
    splits = {"tasks/echo/data/splits": {"shots": "train"}}
    text = yaml.safe_dump(edited((made / "suites/written.yaml").read_text(), {**shots, **splits}), sort_keys=False)
    before, after = suite_of(tmp_path, text), suite_of(tmp_path, edited(text, edits))
    assert stale(before, after) == whole(wanted, before)


def whole(wanted: set[str], suite: Suite) -> set[str]:
    """The jobs with those of each model, and with the snapshot, which says every option."""
    predicted = {f"predict({model})" for model in suite.models} if "predict(*)" in wanted else set()
    return (wanted - {"predict(*)"}) | predicted | ({"snapshot()"} if wanted else set())


# Of a task whose expert is trained here: it is trained on the prompts, and its best epoch is chosen by its answers.
OF_TRAINING: dict[str, tuple[dict[str, Any], set[str]]] = {
    "a prompt": ({"prompt": "after {word} after"}, {"fetch_data(next)", *FEATURES, "finetune(next)", "predict(*)"}),
    "more examples": (
        {"prompt": {"text": "after {word}", "shots": 1}},
        {"fetch_data(next)", *FEATURES, "finetune(next)", "predict(*)"},
    ),
    "a text that ends answers": (
        {"generation": {"max_new_tokens": 2, "stop": ["w2"]}},
        {"finetune(next)", "predict(*)"},
    ),
    "a metric": ({"metric": "quasi_exact_match"}, {"finetune(next)", "score()", "intervals()"}),
}


@pytest.mark.parametrize("change", OF_TRAINING)
def test_an_expert_that_is_trained_here_follows_its_task(made: Path, tmp_path: Path, change: str) -> None:
    edits, wanted = OF_TRAINING[change]
    trained = {"tasks/next/expert": {"finetune": {"epochs": 1, "learning_rate": 0.1}}}
    text = yaml.safe_dump(edited((made / "suites/written.yaml").read_text(), trained), sort_keys=False)
    changed = edited(text, {f"tasks/next/{key}": value for key, value in edits.items()})
    before, after = suite_of(tmp_path, text), suite_of(tmp_path, changed)
    assert stale(before, after) == whole(wanted, before)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("{method: weight_average}", "{method: regmean}", ("methods.weight-average.method", "family decoder")),
        ("{method: weight_average}", "{method: emr}", ("methods.weight-average.method", "family decoder")),
        ("target: reply", "text: [word]", ("tasks.echo", "text")),
        ("metric: exact_match", "metric: accuracy", ("tasks.echo.metric", "accuracy", "exact_match")),
        ("{word} {other} after", "no column", ("tasks.echo.prompt", "names no column")),
        ("family: decoder", "family: encodr", ("family", "encodr", "encoder")),
    ],
)
def test_what_a_language_model_has_not_is_refused(
    made: Path, tmp_path: Path, old: str, new: str, words: tuple[str, ...]
) -> None:
    text = (made / "suites/written.yaml").read_text().replace(str(made), "ROOT")
    assert old in text
    (tmp_path / "written.yaml").write_text(text.replace(old, new, 1))
    with pytest.raises(UserError) as caught:
        load_suite(tmp_path / "written.yaml")
    one_sentence(caught.value, "written.yaml", *words)


def test_a_language_model_is_told_nothing_of_a_rows_task(made: Path) -> None:
    suite = load_suite(made / "suites/written.yaml")
    assert {true_task(suite, model) for model in suite.models} == {"nothing"}


# -- fetching and merging


def test_a_language_models_output_layer_is_fetched_and_merged(made: Path, tmp_path: Path) -> None:
    base, experts = made / "base", made / "experts"
    fetch_base({"path": str(base)}, tmp_path / "base", whole=LANGUAGE)
    fetch_expert({"path": str(experts / "echo")}, LANGUAGE, tmp_path / "base", tmp_path / "echo")
    fetch_adapter({"path": str(experts / "next")}, tmp_path / "base", tmp_path / "next", LANGUAGE)
    assert set(open_directory(tmp_path / "base")) == set(open_directory(tmp_path / "echo"))
    assert open_directory(tmp_path / "echo")["lm_head.weight"].equal(open_directory(experts / "echo")["lm_head.weight"])


def test_a_body_alone_is_no_language_model(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "base", tmp_path / "body")
    tensors = load_file(made / "base/model.safetensors")
    body = {name.removeprefix("model."): value for name, value in tensors.items() if name != "lm_head.weight"}
    save_file(body, tmp_path / "body/model.safetensors", {"format": "pt"})
    with pytest.raises(UserError) as caught:
        fetch_base({"path": str(tmp_path / "body")}, tmp_path / "out", whole=LANGUAGE)
    one_sentence(caught.value, "no tensor 'lm_head.weight'")


def test_a_stored_copy_of_a_tied_embedding_is_dropped_and_one_that_differs_is_refused(tmp_path: Path) -> None:
    make_decoder_suite(tmp_path)
    file = tmp_path / "base/model.safetensors"
    tensors = load_file(file)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, file, {"format": "pt"})
    fetch_base({"path": str(tmp_path / "base")}, tmp_path / "fetched", whole=LANGUAGE)
    assert "lm_head.weight" not in open_directory(tmp_path / "fetched")
    tensors["lm_head.weight"][3, 3] += 1
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(UserError) as caught:
        fetch_base({"path": str(tmp_path / "base")}, tmp_path / "out", whole=LANGUAGE)
    one_sentence(caught.value, "'lm_head.weight' is not the same as 'model.embed_tokens.weight'", "tie_word_embeddings")


def test_a_static_language_model_of_the_library_answers_by_itself(made: Path, tmp_path: Path) -> None:
    experts = {task: made / "experts" / task for task in ("echo", "next")}
    merge("task_arithmetic", scaling=0.5, base=made / "base", experts=experts, output=tmp_path / "merged")
    model: Any = TwinModel.from_pretrained(tmp_path / "merged")
    assert type(model).__name__ == "TwinForCausalLM"
    assert not model.has_private
    found = answer_text(tmp_path / "merged", "w3 after", max_new_tokens=3)
    assert found.text == written(model.model, "w3 after", 3)
    assert (found.task, found.weights) == (None, {})
    with torch.no_grad():
        assert model(torch.tensor([[6, 7]]), tasks=["next"]).weights is None
