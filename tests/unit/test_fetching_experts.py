"""Fetching an expert: any of the usual forms is written in one; what does not fit the base stops with one sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from tests.messages import one_sentence
from tests.originals import (
    Tiny,
    clones,
    old_names,
    save,
    save_pickled_shards,
    save_shards,
    save_tensors,
)
from tests.tiny import WORDS, classifier, config_of
from twin_merging.checkpoints.experts import Expert
from twin_merging.errors import UserError
from twin_merging.fetching.models import fetch_expert
from twin_merging.io.files import read_json
from twin_merging.io.tensors import PICKLED, WEIGHTS
from twin_merging.io.validation import validate
from twin_merging.io.weights import open_directory
from twin_merging.prediction.predict import load_unmerged
from twin_merging.tasks.classification import FAMILY

QUERY = "encoder.layer.0.attention.self.query.weight"
IDS = torch.arange(5, 5 + len(WORDS)).reshape(4, 10)
Tensors = dict[str, torch.Tensor]


def test_an_expert_loads_as_a_classifier_and_answers_as_before(model: Tiny, tmp_path: Path) -> None:
    output = model.fetch(save(tmp_path / "expert", model.expert.config, model.expert_tensors))
    loaded, report = AutoModelForSequenceClassification.from_pretrained(output, output_loading_info=True)
    assert not report["unexpected_keys"]
    assert not report["missing_keys"]
    with torch.inference_mode():
        assert torch.equal(loaded.eval()(IDS).logits, model.expert(IDS).logits)


def test_an_expert_is_read_by_the_names_of_the_base(model: Tiny, tmp_path: Path) -> None:
    output = model.fetch(save(tmp_path / "expert", model.expert.config, model.expert_tensors))
    base = open_directory(model.base)
    expert = Expert(output, base)
    for name in base:
        assert torch.equal(expert.parameter(name), model.expert_tensors[f"{model.prefix}.{name}"])
    assert set(expert.head) == {n for n in model.expert_tensors if not n.startswith(f"{model.prefix}.")}


FORMS: dict[str, Callable[[Path, Tiny], None]] = {
    "without prefix": lambda folder, tiny: save_tensors(
        folder, {name.removeprefix(f"{tiny.prefix}."): tensor for name, tensor in tiny.expert_tensors.items()}
    ),
    "gamma and beta": lambda folder, tiny: save_tensors(folder, old_names(tiny.expert_tensors)),
    "extra parts": lambda folder, tiny: save_tensors(
        folder,
        {
            **tiny.expert_tensors,
            **{n: t for n, t in tiny.base_tensors.items() if n.startswith(("lm_head.", "cls."))},
            f"{tiny.prefix}.embeddings.position_ids": torch.arange(40)[None],
        },
    ),
    "shards": lambda folder, tiny: save_shards(folder, tiny.expert_tensors),
    "pickled": lambda folder, tiny: torch.save(tiny.expert_tensors, folder / PICKLED),
    "pickled, old format": lambda folder, tiny: torch.save(
        tiny.expert_tensors, folder / PICKLED, _use_new_zipfile_serialization=False
    ),
    "pickled shards": lambda folder, tiny: save_pickled_shards(folder, tiny.expert_tensors),
}


@pytest.mark.parametrize("form", FORMS)
def test_an_expert_is_the_same_in_every_form(model: Tiny, tmp_path: Path, form: str) -> None:
    wanted = model.fetch(save(tmp_path / "plain", model.expert.config, model.expert_tensors))
    folder = save(tmp_path / "expert", model.expert.config)
    FORMS[form](folder, model)
    assert (model.fetch(folder) / WEIGHTS).read_bytes() == (wanted / WEIGHTS).read_bytes()


def test_a_pooler_that_the_architecture_does_not_use_is_left_out(roberta: Tiny, tmp_path: Path) -> None:
    extra = {**roberta.expert_tensors, "roberta.pooler.dense.weight": torch.ones(16, 16)}
    output = roberta.fetch(save(tmp_path / "expert", roberta.expert.config, extra))
    assert read_json(output / "source.json")["left_out"] == ["roberta.pooler.dense.weight"]


def test_a_half_precision_expert_keeps_its_values(model: Tiny, tmp_path: Path) -> None:
    half = {name: tensor.half() for name, tensor in model.expert_tensors.items()}
    expert = Expert(model.fetch(save(tmp_path / "expert", model.expert.config, half)), open_directory(model.base))
    assert expert.parameter(QUERY).dtype == torch.float16
    assert torch.equal(expert.parameter(QUERY), half[f"{model.prefix}.{QUERY}"])


def test_a_missing_tensor_is_named(model: Tiny, tmp_path: Path) -> None:
    tensors = clones(model.expert_tensors)
    del tensors[f"{model.prefix}.{QUERY}"]
    model.refused(tmp_path / "expert", tensors, QUERY, "fetch it again")


def test_a_tensor_that_fits_nothing_is_named(model: Tiny, tmp_path: Path) -> None:
    tensors = {**model.expert_tensors, f"{model.prefix}.adapter.down.weight": torch.ones(2)}
    model.refused(tmp_path / "expert", tensors, f"{model.prefix}.adapter.down.weight", "config.json")


def test_one_parameter_under_two_names_is_refused(model: Tiny, tmp_path: Path) -> None:
    tensors = {**model.expert_tensors, QUERY: torch.ones(16, 16)}
    model.refused(tmp_path / "expert", tensors, QUERY, "another name")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_are_refused(model: Tiny, tmp_path: Path, value: float) -> None:
    tensors = clones(model.expert_tensors)
    tensors[f"{model.prefix}.{QUERY}"][0, 0] = value
    model.refused(tmp_path / "expert", tensors, QUERY, "NaN or infinity")


def test_another_vocabulary_is_refused(model: Tiny, tmp_path: Path) -> None:
    name = f"{model.prefix}.embeddings.word_embeddings.weight"
    tensors = {**model.expert_tensors, name: torch.zeros(50, 16)}
    model.refused(tmp_path / "expert", tensors, name, "[50, 16]", "[45, 16]", "config.json")
    config = config_of(model.kind, 3)
    config.vocab_size = 50
    folder = save(tmp_path / "resized", config, tensors)
    with pytest.raises(UserError) as caught:
        model.fetch(folder)
    one_sentence(caught.value, str(folder), "embeddings.word_embeddings.weight", "[50, 16]", "[45, 16]", "the base")


def test_a_wrong_count_of_labels_is_refused(model: Tiny, tmp_path: Path) -> None:
    model.refused(tmp_path / "expert", model.expert_tensors, "is [3", "labels: 2", "suite", labels=2)


def test_an_expert_with_more_layers_than_the_base_is_refused(roberta: Tiny, tmp_path: Path) -> None:
    config = config_of("roberta", 3)
    config.num_hidden_layers = 3
    deeper = AutoModelForSequenceClassification.from_config(config)
    folder = save(tmp_path / "expert", config, deeper.state_dict())
    with pytest.raises(UserError) as caught:
        roberta.fetch(folder)
    one_sentence(caught.value, str(folder), "num_hidden_layers is 3, but 2", "allow_differences")


def test_an_expert_that_may_differ_answers_with_its_own_configuration(roberta: Tiny, tmp_path: Path) -> None:
    config = config_of("roberta", 3)
    config.num_attention_heads = 4
    expert = AutoModelForSequenceClassification.from_config(config).eval()
    expert.load_state_dict(roberta.expert_tensors)
    folder = save(tmp_path / "expert", config, expert.state_dict())
    with pytest.raises(UserError) as caught:
        roberta.fetch(folder)
    one_sentence(caught.value, "num_attention_heads is 4, but 2 in the base", "allow_differences")
    fetch_expert({"path": str(folder)}, 3, roberta.base, tmp_path / "one", allowed=["num_attention_heads"])
    tasks = {"one": validate(FAMILY.answers, {"text": ["x"], "labels": 3})}
    found: Any = load_unmerged("encoder", roberta.base, {"one": tmp_path / "one"}, tasks, "one")
    with torch.inference_mode():
        torch.testing.assert_close(found(IDS, tasks=["one"] * len(IDS)).logits, expert(IDS).logits)
        assert not torch.allclose(expert(IDS).logits, roberta.expert(IDS).logits, atol=1e-3)


def test_an_expert_of_another_architecture_is_refused(roberta: Tiny, tmp_path: Path) -> None:
    other = classifier("bert", 3, seed=0)
    folder = save(tmp_path / "expert", other.config, other.state_dict())
    with pytest.raises(UserError) as caught:
        roberta.fetch(folder)
    one_sentence(caught.value, str(folder), "bert", "roberta")
