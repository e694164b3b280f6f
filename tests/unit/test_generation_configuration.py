"""generation_config.json: carried from the base into every model, and followed where a plain search follows it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.messages import one_sentence
from tests.tiny import perturbed
from tests.tiny_decoders import language_model, tokenizer, written
from twin_merging import TwinModel, UserError, merge
from twin_merging.fetching.models import fetch_base
from twin_merging.io.files import read_json
from twin_merging.tasks.families import whole_model

FILE = "generation_config.json"
CHAT = {"do_sample": True, "temperature": 0.6, "repetition_penalty": 9.0, "no_repeat_ngram_size": 1}
TOKENS = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": [2, 3]}


def make_base(folder: Path, said: dict[str, Any] | None) -> Path:
    perturbed(language_model("llama", True, 0), 9, 0.5).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    (folder / FILE).unlink()
    if said is not None:
        (folder / FILE).write_text(json.dumps(said))
    return folder


def fetched(source: Path, output: Path, family: str = "decoder") -> Path:
    fetch_base({"path": str(source)}, output, whole=whole_model(family))
    return output


def test_the_bases_is_carried_into_merged_models(tmp_path: Path) -> None:
    base = fetched(make_base(tmp_path / "source", {**TOKENS, **CHAT}), tmp_path / "base")
    assert read_json(base / FILE) == {**TOKENS, **CHAT}
    out = merge("weight_average", base=base, experts={"a": tmp_path / "source"}, output=tmp_path / "out")
    assert read_json(out / FILE) == {**TOKENS, **CHAT}


def test_a_base_without_one_gets_its_configurations_and_a_classifiers_base_none(tmp_path: Path) -> None:
    source = make_base(tmp_path / "source", None)
    assert read_json(fetched(source, tmp_path / "base") / FILE) == {**TOKENS, "eos_token_id": 2}
    assert not (fetched(source, tmp_path / "other", "encoder") / FILE).exists()


@pytest.mark.parametrize(("key", "value"), [("eos_token_id", [2, 45]), ("pad_token_id", "x"), ("bos_token_id", [0])])
def test_a_token_that_the_model_has_not_is_named(tmp_path: Path, key: str, value: Any) -> None:
    source = make_base(tmp_path / "source", {**TOKENS, key: value})
    with pytest.raises(UserError) as caught:
        fetched(source, tmp_path / "base")
    one_sentence(caught.value, f"source/{FILE}: {key} is ", "from 0 to 44")
    assert not (tmp_path / "base").exists() or not list((tmp_path / "base").glob("*.safetensors"))


def test_answers_are_those_of_a_plain_search_whatever_a_chat_model_asks_for(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", {**TOKENS, **CHAT})
    out = merge("weight_average", base=base, experts={"a": base}, output=tmp_path / "out")
    model: Any = TwinModel.from_pretrained(out)
    plain: Any = AutoModelForCausalLM.from_pretrained(out).eval()
    assert plain.generation_config.repetition_penalty == 9
    penalised = plain.generate(torch.tensor([[4, 6]]), max_new_tokens=8, do_sample=False)
    plain.generation_config = type(plain.generation_config)(**TOKENS)
    batch = tokenizer()(["after w1"], return_tensors="pt")
    answer = model.answer_one(batch, tokenizer(), None, 8)
    assert answer.text == written(plain, "after w1", 8)
    assert answer.text != tokenizer().decode(penalised[0, 2:], skip_special_tokens=True)
    assert model.generation_config.repetition_penalty == 9  # what a caller's own `generate` follows
    words = answer.text.split()
    third = tokenizer().convert_tokens_to_ids(words[2])
    model.generation_config.eos_token_id = [2, third]
    assert model.answer_one(batch, tokenizer(), None, 8).text.split() == words[: words.index(words[2])]
