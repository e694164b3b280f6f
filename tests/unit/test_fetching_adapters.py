"""Fetching a LoRA adapter: its weights are those that PEFT merges, and what does not fit stops with one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.messages import one_sentence
from tests.originals import (
    Tensors,
    Tiny,
    save,
)
from tests.tiny import expert_of, perturbed
from twin_merging.checkpoints.adapter_settings import ADAPTER_CONFIG
from twin_merging.checkpoints.adapters import ADAPTER
from twin_merging.checkpoints.experts import Expert
from twin_merging.checkpoints.kinds import Classifier
from twin_merging.errors import UserError
from twin_merging.fetching.declared import ExpertFromHub, FromPath
from twin_merging.fetching.models import fetch_adapter
from twin_merging.io.files import read_json
from twin_merging.io.weights import open_directory

QUERY = "encoder.layer.0.attention.self.query.weight"


def adapter(tiny: Tiny, folder: Path, **options: Any) -> tuple[Path, Tensors]:
    """A trained-looking adapter of the base with its head, and the merged model's weights as PEFT gives them."""
    from peft import LoraConfig, get_peft_model

    whole = expert_of(tiny.body, tiny.kind, 3, seed=2)
    getattr(whole, tiny.prefix).load_state_dict(tiny.body.state_dict(), strict=False)
    settings = {"r": 3, "lora_alpha": 12, "target_modules": ["query", "value"], **options}
    peft: Any = get_peft_model(whole, LoraConfig(task_type="SEQ_CLS", **settings))
    trained = [parameter for parameter in peft.parameters() if parameter.requires_grad]
    perturbed(torch.nn.ParameterList(trained), seed=3, size=0.2)
    peft.save_pretrained(folder)
    merged = peft.merge_and_unload().state_dict()
    return folder, {name.removeprefix(f"{tiny.prefix}."): tensor for name, tensor in merged.items()}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_rslora": True},
        {"rank_pattern": {"layer.0.attention.self.query": 5, r".*1.*value": 2}},
        {"rank_pattern": {"query": 4}, "alpha_pattern": {"layer.1.attention.self.query": 3}, "use_rslora": True},
        {"target_modules": ["query", "word_embeddings"]},
        {"bias": "all"},
        {"bias": "lora_only"},
        {"modules_to_save": ["classifier", "output.LayerNorm"]},
        {"init_lora_weights": "gaussian"},
    ],
    ids=lambda options: ",".join(options) or "plain",
)
def test_an_adapter_gives_the_weights_that_peft_merges(model: Tiny, tmp_path: Path, options: Any) -> None:
    folder, wanted = adapter(model, tmp_path / "adapter", **options)
    assert FromPath(path=str(folder)).is_adapter
    fetch_adapter({"path": str(folder)}, model.base, tmp_path / "out", Classifier(3))
    base = open_directory(model.base)
    expert = Expert(tmp_path / "out", base)
    for name in base:
        torch.testing.assert_close(expert.parameter(name), wanted[name], rtol=1e-5, atol=1e-6)
    for name, tensor in expert.head.items():
        assert torch.equal(tensor, wanted[name])
    assert {name for name in wanted if name not in base} - {"embeddings.position_ids"} == set(expert.head)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"peft_type": "IA3"}, ("IA3", "only LORA")),
        ({"use_dora": True}, ("use_dora",)),
        ({"init_lora_weights": "pissa"}, ("pissa", "base itself")),
        ({"lora_alpha": None}, ("lora_alpha", "missing")),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_adapter_that_is_no_plain_lora_is_refused(
    roberta: Tiny, tmp_path: Path, change: Any, words: tuple[str, ...]
) -> None:
    folder, _ = adapter(roberta, tmp_path / "adapter")
    file = folder / ADAPTER_CONFIG
    file.write_text(json.dumps({**read_json(file), **change}))
    adapter_refused(roberta, folder, str(file), *words)


HEAD = "base_model.model.classifier.out_proj.weight"
LORA = f"base_model.model.roberta.{QUERY}".removesuffix("weight")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensors: tensors.pop(HEAD), ("classifier.out_proj.weight", "modules_to_save")),
        (lambda tensors: tensors.update({HEAD: torch.zeros(2, 16)}), ("[2, 16]", "labels: 3")),
        (lambda tensors: tensors.pop(f"{LORA}lora_B.weight"), ("lora_B", "query")),
        (lambda tensors: tensors.update({f"{LORA}lora_B.weight": torch.zeros(8, 3)}),
         ("layer.0.attention.self.query", "[8, 16]", "[16, 16]")),
        (lambda tensors: tensors[f"{LORA}lora_B.weight"].fill_(float("inf")), (QUERY, "infinity")),
        (lambda tensors: tensors.update({"base_model.model.x.lora_A.weight": torch.ones(3, 2),
                                         "base_model.model.x.lora_B.weight": torch.ones(2, 3)}), ("'x'", "fits no")),
        (lambda tensors: tensors.update({"base_model.model.roberta.x.weight": torch.ones(3)}), ("x.weight", "fits no")),
    ],
    ids=["no head", "labels", "half a pair", "shape", "infinity", "foreign module", "foreign tensor"],
)  # fmt: skip
def test_an_adapter_that_does_not_fit_is_refused(
    roberta: Tiny, tmp_path: Path, change: Callable[[Tensors], Any], words: tuple[str, ...]
) -> None:
    folder, _ = adapter(roberta, tmp_path / "adapter")
    from safetensors.torch import load_file

    tensors = load_file(folder / ADAPTER)
    change(tensors)
    save_file(tensors, folder / ADAPTER)
    adapter_refused(roberta, folder, str(folder), *words)


def test_an_adapter_and_a_whole_expert_are_told_apart(roberta: Tiny, tmp_path: Path) -> None:
    folder = save(tmp_path / "expert", roberta.expert.config, roberta.expert_tensors)
    assert not FromPath(path=str(folder)).is_adapter
    assert ExpertFromHub.model_validate({"hub": {"repo": "a/b", "adapter": True}}).is_adapter
    assert not ExpertFromHub.model_validate({"hub": {"repo": "a/b"}}).is_adapter
    adapter_refused(roberta, folder, ADAPTER_CONFIG, "adapter: true")
    folder, _ = adapter(roberta, tmp_path / "adapter")
    with pytest.raises(UserError) as caught:
        roberta.fetch(folder)
    one_sentence(caught.value, str(folder), "adapter: true")


def adapter_refused(tiny: Tiny, folder: Path, *words: str) -> None:
    output = folder.with_name("refused")
    with pytest.raises(UserError) as caught:
        fetch_adapter({"path": str(folder)}, tiny.base, output, Classifier(3))
    one_sentence(caught.value, *words)
    assert not output.exists()
