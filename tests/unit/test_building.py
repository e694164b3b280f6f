"""Twin-Merging in one call, from directories as they come, against dense arithmetic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForSequenceClassification

from tests.dense_twin import DECODERS, DenseLanguageModel
from tests.tiny import LABELS, WORDS, config_of, tokenizer
from twin_merging import TwinForCausalLM, TwinModel, UserError, twin_merge
from twin_merging.io.files import read_json
from twin_merging.routing.options import OwnRouter, RouterOptions

ROUTER = {"epochs": 3, "batch_size": 16}


def texts_of(tasks: Any, rows: int = 30) -> dict[str, list[str]]:
    """Texts of each task's own words."""
    share = len(WORDS) // len(tasks)
    return {
        task: [" ".join(WORDS[number * share + (row + k) % share] for k in range(5)) for row in range(rows)]
        for number, task in enumerate(tasks)
    }


def language_models(model_type: str, folder: Path, tied: bool) -> tuple[Path, dict[str, Path], DenseLanguageModel]:
    dense = DenseLanguageModel(model_type, 1.0, tied=tied)
    dense.shared.save_pretrained(folder / "base")
    tokenizer().save_pretrained(folder / "base")
    for task in dense.tasks:
        dense.experts[task].save_pretrained(folder / task)
    return folder / "base", {task: folder / task for task in dense.tasks}, dense


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("model_type", DECODERS)
def test_language_models_at_full_rank_are_the_experts(model_type: str, tied: bool, tmp_path: Path) -> None:
    base, experts, dense = language_models(model_type, tmp_path, tied)
    output = twin_merge(
        base=base, experts=experts, texts=texts_of(experts), output=tmp_path / "out", fraction=1.0, router=ROUTER
    )
    model = TwinModel.from_pretrained(output)
    assert isinstance(model, TwinForCausalLM)
    ids = torch.randint(5, 45, (4, 7), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        shared = getattr(transformers, type(dense.shared).__name__).from_pretrained(output)
        wanted = dense.merged(torch.zeros(3))
        base_logits, moved = dense.shared(ids).logits, shared(ids).logits
        assert not torch.allclose(base_logits, moved, atol=1e-3), "the shared expert is not the base"
        assert torch.equal(wanted(ids).logits, base_logits)
        for number, task in enumerate(experts):
            found = model(ids, weights=torch.eye(3)[[number] * 4]).logits
            torch.testing.assert_close(found, dense.experts[task](ids).logits, rtol=1e-4, atol=1e-4)
    assert read_json(output / "router" / "metrics.json")["held_out_rows"] == 9


@pytest.mark.parametrize("onepass", [False, True])
def test_classifiers_with_prefixes_and_heads_of_several_sizes(tiny: Path, tmp_path: Path, onepass: bool) -> None:
    experts = {task: tiny / "experts" / task for task in LABELS}
    router = {**ROUTER, "kind": "projection", "features": "embedding"} if onepass else ROUTER
    output = twin_merge(
        base=tiny / "base", experts=experts, texts=texts_of(LABELS), output=tmp_path / "out", fraction=1.0,
        router=router, onepass=onepass,
    )  # fmt: skip
    model: Any = TwinModel.from_pretrained(output)
    assert (model.labels, model.onepass) == (LABELS, onepass)
    ids = torch.randint(5, 45, (4, 7), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        routed = model(ids)
        assert routed.weights.shape == (4, 2)
        for number, task in enumerate(LABELS):
            wanted = AutoModelForSequenceClassification.from_pretrained(experts[task]).eval()(ids).logits
            found = model(ids, weights=torch.eye(2)[[number] * 4], tasks=[task] * 4).logits[:, : LABELS[task]]
            close = torch.allclose(found, wanted, rtol=1e-4, atol=1e-4)
            assert close is not onepass, "a one-pass model keeps the shared embeddings"


def test_adapters_of_a_language_model_are_compressed_by_their_factors(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = config_of("qwen2")
    base = transformers.AutoModelForCausalLM.from_config(config).eval()
    base.save_pretrained(tmp_path / "base")
    tokenizer().save_pretrained(tmp_path / "base")
    wanted, ids = {}, torch.randint(5, 45, (3, 6), generator=torch.Generator().manual_seed(1))
    for seed, task in enumerate(("a", "b"), start=1):
        torch.manual_seed(seed)
        own = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
        lora = LoraConfig(r=seed + 1, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
        adapted = get_peft_model(own, lora).eval()
        adapted.save_pretrained(str(tmp_path / task))
        wanted[task] = adapted(ids).logits.detach()
    experts = {task: tmp_path / task for task in wanted}
    output = twin_merge(
        base=tmp_path / "base", experts=experts, texts=texts_of(experts), output=tmp_path / "out", rank=5, router=ROUTER
    )
    model = TwinModel.from_pretrained(output)
    assert read_json(output / "merge.json")["tasks"]["a"]["exclusive_numbers"] < 2 * 2 * 5 * (16 + 24 + 16 + 16)
    with torch.no_grad():
        for number, task in enumerate(wanted):
            found = model(ids, weights=torch.eye(2)[[number] * 3]).logits
            torch.testing.assert_close(found, wanted[task], rtol=1e-4, atol=1e-4)


def test_the_routers_defaults_are_the_suites() -> None:
    defaults = RouterOptions().plain()
    assert defaults.pop("hub") is None  # a router from the Hub is for suites alone
    assert OwnRouter().plain() == defaults


def test_wrong_inputs_are_one_sentence_and_leave_nothing(tiny: Path, tmp_path: Path) -> None:
    experts = {task: tiny / "experts" / task for task in LABELS}
    given: dict[str, Any] = {"base": tiny / "base", "experts": experts, "output": tmp_path / "out", "rank": 1}
    texts = texts_of(LABELS)
    for change, message in (
        ({"texts": {"one": texts["one"]}}, "expert 'two' needs two texts or more"),
        ({"texts": {**texts, "three": ["w1", "w2"]}}, "unknown expert 'three'"),
        ({"texts": texts, "router": {"epoch": 3}}, "router: unknown key 'epoch'"),
        ({"texts": texts, "fraction": 0.1}, "exactly one of rank, fraction, energy"),
        ({"texts": texts, "onepass": True}, "its router must read one layer"),
        ({"texts": texts, "ranks": 3}, "unknown key 'ranks'"),
        ({"texts": texts, "router": {"features": {"layers": [0, 3]}}}, "router.features: layer 3 is asked for"),
        ({"texts": texts, "onepass": True, "router": {"features": {"layer": 2}}}, "before the last of 2"),
    ):
        with pytest.raises(UserError, match=message):
            twin_merge(**{**given, **change})
        assert list(tmp_path.iterdir()) == []
