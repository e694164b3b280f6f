"""Models are evaluated in the type that a suite names, whatever they are stored in."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM

from tests.dense_twin import DenseLanguageModel, router_of
from tests.tiny_decoders import tokenizer
from twin_merging.io.tensors import Checkpoint
from twin_merging.io.validation import validate
from twin_merging.prediction.predict import load_merged, load_unmerged
from twin_merging.routing.features import extract_features
from twin_merging.tasks.endings import Ending
from twin_merging.tasks.generation import Generation
from twin_merging.tasks.writing import write

TASK = {"prompt": "{word}", "metric": "exact_match"}


def types_of(model: Any) -> set[torch.dtype]:
    """Of parameters, and of factors and vectors beside them; a router's are its own."""
    each = [*model.model.named_parameters(), *model.model.named_buffers()]
    return {tensor.dtype for name, tensor in each if tensor.is_floating_point() and "inv_freq" not in name}


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_merged_model_and_an_expert_are_loaded_in_the_named_type(
    dtype: str, stored: torch.dtype, tmp_path: Path
) -> None:
    dense = DenseLanguageModel("qwen2", 0.5)
    expert = copy.deepcopy(dense.experts["a"]).to(stored)
    dense.shared.to(stored).save_pretrained(tmp_path / "base")
    expert.save_pretrained(tmp_path / "a")
    dense.twin(router_of(16)).save_pretrained(tmp_path / "twin")
    kind = getattr(torch, dtype)
    twin: Any = load_merged(tmp_path / "twin", dtype)
    assert types_of(twin) == {kind}
    assert {parameter.dtype for parameter in twin.router.parameters()} == {torch.float32}
    tasks: Any = {"a": validate(Generation, TASK)}
    found: Any = load_unmerged("decoder", tmp_path / "base", {"a": tmp_path / "a"}, tasks, "a", dtype)
    assert types_of(found) == {kind}
    wanted = dict(expert.to(kind).named_parameters())
    assert all(torch.equal(value, wanted[name]) for name, value in found.model.named_parameters())


def test_a_routers_features_are_of_the_body_in_the_named_type(tmp_path: Path) -> None:
    DenseLanguageModel("llama", 0.5).shared.save_pretrained(tmp_path / "shared")
    tokenizer().save_pretrained(tmp_path / "shared")
    table = pd.DataFrame({"word": ["w1 w2", "w3", "w4 w5 w6"], "answer": ["w1"] * 3})
    (tmp_path / "one").mkdir()
    for split in ("train", "validation"):
        table.to_parquet(tmp_path / "one" / f"{split}.parquet", index=False)
    found = {}
    for dtype in ("float32", "bfloat16"):
        extract_features(
            shared=tmp_path / "shared",
            data={"one": tmp_path / "one"},
            tasks={"one": validate(Generation, TASK)},
            limits={},
            inference={"max_length": 16, "batch_size": 1},
            features="last",
            output=tmp_path / dtype,
            dtype=dtype,
        )
        found[dtype] = Checkpoint(tmp_path / dtype)["one/train"]
    assert {value.dtype for value in found.values()} == {torch.float32}
    body = AutoModel.from_pretrained(tmp_path / "shared", dtype=torch.bfloat16).eval()
    ids = tokenizer()("w4 w5 w6", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        assert torch.equal(found["bfloat16"][2], body(ids).last_hidden_state[0, -1].float())
    torch.testing.assert_close(found["bfloat16"], found["float32"], rtol=0.05, atol=0.05)
    assert not torch.equal(found["bfloat16"], found["float32"])


def test_a_static_model_in_half_precision_writes_what_transformers_writes(tmp_path: Path) -> None:
    DenseLanguageModel("gpt2", 0.5).shared.save_pretrained(tmp_path)
    alone = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
    batch = tokenizer()(["w1 w2 w3"], return_tensors="pt")
    [found] = write(alone, batch, [Ending(max_new_tokens=8)], tokenizer())
    wanted = alone.generate(**batch, max_new_tokens=8, do_sample=False, pad_token_id=1, eos_token_id=2)[0, 3:]
    assert found.tokens == wanted.tolist()
