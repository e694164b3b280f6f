"""One loader of tokenizers: what it says of one that cannot be read, what it pads by, and what takes that over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from tests.messages import one_sentence
from tests.tiny import WORDS, config_of, expert_of, perturbed, tokenizer
from twin_merging import TwinModel, merge, twin_merge
from twin_merging.api.export import export
from twin_merging.checkpoints.kinds import Classifier
from twin_merging.checkpoints.tokenizers import load_tokenizer, read_tokenizer
from twin_merging.errors import UserError
from twin_merging.fetching.models import fetch_base, fetch_expert

CAUSAL = ["gpt2", "llama", "opt"]
TEXTS = ["w1 w2 w3 w4 w5 w6", "w7", "w8 w9", "w10 w11 w12 w13"]


def saved(folder: Path, model_type: str = "bert", padding: int | None = 1, **tokens: Any) -> Path:
    """A model directory's configuration and tokenizer; tokens: special tokens that are set otherwise."""
    config = config_of(model_type)
    config.pad_token_id = padding
    config.save_pretrained(folder)
    own = tokenizer()
    for name, token in tokens.items():
        setattr(own, name, token)
    own.save_pretrained(folder)
    return folder


# -- what cannot be read


NEWER = {
    "a kind of model": ("model", {"type": "Words", "vocab": {"a": 0}}),
    "a normalizer": ("normalizer", {"type": "NFZ"}),
    "a version": ("version", "9.0"),
    "a decoder": ("decoder", {"type": "Whatever"}),
}


@pytest.mark.parametrize("new", NEWER)
def test_a_tokenizer_of_another_version_is_one_sentence(new: str, tmp_path: Path) -> None:
    file = saved(tmp_path / "base") / "tokenizer.json"
    key, value = NEWER[new]
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    for load in (load_tokenizer, read_tokenizer):
        with pytest.raises(UserError) as caught:
            load(tmp_path / "base")
        one_sentence(caught.value, str(file), "tokenizers", "update tokenizers and transformers", "save it again")


@pytest.mark.parametrize(
    "content", ["", "{", "<html></html>", "[]", "{}", "version https://git-lfs.github.com/spec/v1"]
)
def test_a_damaged_tokenizer_is_one_sentence(content: str, tmp_path: Path) -> None:
    file = saved(tmp_path / "base") / "tokenizer.json"
    file.write_text(content)
    with pytest.raises(UserError) as caught:
        load_tokenizer(tmp_path / "base")
    one_sentence(caught.value, str(file), "fetch it again")


@pytest.mark.parametrize("model_type", ["bert", "roberta", "gpt2", "albert", "qwen2", "llama", "electra"])
def test_no_tokenizer_is_not_an_empty_one(model_type: str, tmp_path: Path) -> None:
    config_of(model_type).save_pretrained(tmp_path)
    with pytest.raises(UserError) as caught:
        load_tokenizer(tmp_path)
    one_sentence(caught.value, str(tmp_path), "no tokenizer", "tokenizer.json")


# -- what it pads by


@pytest.mark.parametrize(
    ("model_type", "padding", "tokens", "wanted"),
    [
        ("bert", 1, {}, "<pad>"),
        ("bert", 3, {}, "<pad>"),  # its own before the configuration's
        ("gpt2", 7, {"pad_token": None}, WORDS[2]),
        ("bert", 1, {"pad_token": None, "eos_token": None}, "<pad>"),
        ("gpt2", None, {"pad_token": None, "eos_token": "<s>"}, "<s>"),
        ("llama", -1, {"pad_token": None, "eos_token": "<s>"}, "<s>"),
        ("gpt2", 4000, {"pad_token": None, "eos_token": "<s>"}, "<s>"),  # no such token
        ("gpt2", None, {"pad_token": None}, "<unk>"),  # texts end with </s>
        ("gpt2", None, {"pad_token": "[PAD]"}, "<unk>"),  # added, and the embedding has no row for it
    ],
)
def test_what_a_tokenizer_pads_by(
    model_type: str, padding: int | None, tokens: dict[str, Any], wanted: str, tmp_path: Path
) -> None:
    found = load_tokenizer(saved(tmp_path / "base", model_type, padding, **tokens))
    assert found.pad_token == wanted
    assert found.pad_token_id < config_of(model_type).vocab_size


@pytest.mark.parametrize("padding", [None, -1, 4000])
def test_a_tokenizer_that_has_nothing_to_pad_by_is_refused(padding: int | None, tmp_path: Path) -> None:
    base = saved(tmp_path / "base", "gpt2", padding, pad_token=None, eos_token=None)
    with pytest.raises(UserError) as caught:
        load_tokenizer(base)
    one_sentence(caught.value, str(base), "no padding token", '"pad_token" in tokenizer_config.json')
    with pytest.raises(UserError, match="no padding token"):  # before the merge
        twin_merge(base=base, experts={"a": base}, texts={"a": TEXTS}, output=tmp_path / "out", rank=1)


# -- classifiers on causal bodies find a row's last token by it


def classifiers(root: Path, model_type: str, padding: int | None, **tokens: Any) -> tuple[Path, dict[str, Path]]:
    """A base and two experts, whose configurations name `padding`."""
    base = saved(root / "base", model_type, padding, **tokens)
    torch.manual_seed(0)
    body = transformers.AutoModel.from_config(AutoConfig.from_pretrained(base))
    body.save_pretrained(base)
    experts = {}
    for seed, (task, labels) in enumerate({"a": 4, "b": 3}.items(), start=1):
        expert = perturbed(expert_of(body, model_type, labels, seed), seed, 0.3)
        expert.config.pad_token_id = padding
        expert.save_pretrained(root / task)
        experts[task] = root / task
    return base, experts


PADDING = [(None, {"pad_token": None}), (7, {"pad_token": None}), (9, {}), (1, {})]


@pytest.mark.parametrize(("padding", "tokens"), PADDING, ids=["none", "config's", "another's", "the same"])
@pytest.mark.parametrize("model_type", CAUSAL)
def test_a_batch_is_answered_as_its_rows_one_by_one(
    model_type: str, padding: int | None, tokens: dict[str, Any], tmp_path: Path
) -> None:
    base, experts = classifiers(tmp_path, model_type, padding, **tokens)
    out = merge("task_arithmetic", base=base, experts=experts, output=tmp_path / "out", scaling=0.4)
    model = TwinModel.from_pretrained(out)
    plain = AutoTokenizer.from_pretrained(out)
    plain.pad_token = plain.pad_token or plain.eos_token  # as users do
    loaded = load_tokenizer(out)
    with torch.no_grad():
        alone = torch.cat([model(**inputs(plain, [text]), tasks=["b"]).logits[:, :3] for text in TEXTS])
        assert alone.std(0).max() > 1e-2, "rows differ"
        for own in (plain, loaded):
            for side in ("left", "right"):
                own.padding_side = side
                found = model(**inputs(own, TEXTS, padding=True), tasks=["b"] * len(TEXTS)).logits[:, :3]
                torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-5)


def inputs(own: Any, texts: list[str], **options: Any) -> dict[str, torch.Tensor]:
    encoded = own(texts, return_tensors="pt", **options)
    return {name: encoded[name] for name in ("input_ids", "attention_mask")}


@pytest.mark.parametrize(("padding", "tokens"), PADDING[:3], ids=["none", "config's", "another's"])
@pytest.mark.parametrize("model_type", CAUSAL)
def test_what_is_fetched_works_in_batches_with_transformers_alone(
    model_type: str, padding: int | None, tokens: dict[str, Any], tmp_path: Path
) -> None:
    base, experts = classifiers(tmp_path, model_type, padding, **tokens)
    fetch_base({"path": str(base)}, tmp_path / "fetched")
    fetch_expert({"path": str(experts["b"])}, Classifier(3), tmp_path / "fetched", tmp_path / "expert")
    own = AutoTokenizer.from_pretrained(tmp_path / "fetched")
    assert AutoConfig.from_pretrained(tmp_path / "fetched").pad_token_id == own.pad_token_id is not None
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "expert").eval()
    original = AutoModelForSequenceClassification.from_pretrained(experts["b"]).eval()
    with torch.no_grad():
        alone = torch.cat([original(**inputs(own, [text])).logits for text in TEXTS])
        found = model(**inputs(own, TEXTS, padding=True)).logits
    torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model_type", ["roberta", "bert"])
def test_an_encoder_keeps_its_own_padding(model_type: str, tmp_path: Path) -> None:
    base, _ = classifiers(tmp_path, model_type, 3)
    fetch_base({"path": str(base)}, tmp_path / "fetched")
    assert AutoConfig.from_pretrained(tmp_path / "fetched").pad_token_id == 3


@pytest.mark.parametrize("model_type", ["gpt2", "llama"])
def test_an_exported_mixture_has_the_padding(model_type: str, tmp_path: Path) -> None:
    base, experts = classifiers(tmp_path, model_type, None, pad_token=None)
    texts = {
        task: [" ".join(WORDS[k : k + 3]) for k in range(start, start + 12)]
        for task, start in {"a": 0, "b": 20}.items()
    }
    router = {"kind": "mahalanobis"}
    out = twin_merge(base=base, experts=experts, texts=texts, output=tmp_path / "out", rank=2, router=router)
    export(out, {"b": 1.0}, tmp_path / "one")
    own = load_tokenizer(tmp_path / "one")
    single, twin = AutoModelForSequenceClassification.from_pretrained(tmp_path / "one"), TwinModel.from_pretrained(out)
    weights = torch.tensor([[0.0, 1.0]] * len(TEXTS))
    with torch.no_grad():
        found = single.eval()(**inputs(own, TEXTS, padding=True)).logits
        wanted = twin(**inputs(own, TEXTS, padding=True), weights=weights).logits[:, :3]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
