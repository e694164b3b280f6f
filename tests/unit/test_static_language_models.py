"""Language models that are merged without a router: plain checkpoints, of which nothing is a task's own."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GenerationMixin

from tests.dense_twin import DenseLanguageModel, router_of
from tests.suites import edited, load, refused
from tests.tiny import perturbed
from tests.tiny_decoders import language_model, tokenizer
from tests.unit.test_suites_of_decoders import DECODER
from twin_merging import TwinModel, merge
from twin_merging.io.files import read_json, sha256
from twin_merging.io.tensors import WEIGHTS
from twin_merging.model.loading import load_expert

PROMPT: dict[str, Any] = {"input_ids": torch.tensor([[6, 7, 4]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}
OPTIONS: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 1}


@pytest.fixture(scope="module", params=[("qwen2", True), ("llama", False)], ids=str)
def models(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base with biases or without, and two whole experts of it."""
    root = tmp_path_factory.mktemp("models")
    model_type, tied = request.param
    base = perturbed(language_model(model_type, tied, 0), 9, 0.5)
    base.save_pretrained(root / "base")
    tokenizer().save_pretrained(root / "base")
    for seed, name in enumerate("ab", start=1):
        perturbed(copy.deepcopy(base), seed, 0.5).save_pretrained(root / name)
    return root


def merged(models: Path, output: Path, protocol: str) -> Path:
    experts = {name: models / name for name in "ab"}
    return merge(
        "task_arithmetic", base=models / "base", experts=experts, output=output, protocol=protocol, scaling=0.4
    )


def test_strict_and_reference_are_one_model_that_answers_without_a_task(models: Path, tmp_path: Path) -> None:
    strict, reference = (merged(models, tmp_path / name, name) for name in ("strict", "reference"))
    assert sha256(strict / WEIGHTS) == sha256(reference / WEIGHTS)
    assert read_json(reference / "merge.json")["protocol"] == "strict"
    alone: Any = AutoModelForCausalLM.from_pretrained(reference).eval()
    model: Any = TwinModel.from_pretrained(reference)
    assert (model.has_private, model.router) == (False, None)
    wanted = alone.generate(**PROMPT, **OPTIONS)
    for tasks in (None, ["b"]):
        assert torch.equal(model(**PROMPT, tasks=tasks).logits, alone(**PROMPT).logits)
        assert torch.equal(model.generate(**PROMPT, tasks=tasks, **OPTIONS), wanted)


def test_under_linear_the_linear_layers_of_a_language_model_are_merged_alone(models: Path, tmp_path: Path) -> None:
    linear, strict, base = (
        dict(load_file(folder / WEIGHTS))
        for folder in (merged(models, tmp_path / "linear", "linear"), merged(models, tmp_path / "all", "strict"),
                       models / "base")
    )  # fmt: skip
    assert read_json(tmp_path / "linear" / "merge.json")["protocol"] == "linear"
    for name, tensor in linear.items():
        is_linear = name.endswith("proj.weight")
        assert torch.equal(tensor, (strict if is_linear else base)[name]), name
        assert not torch.equal(strict[name], base[name]), name
    model: Any = TwinModel.from_pretrained(tmp_path / "linear")
    assert (model.has_private, model.router) == (False, None)


def test_an_experts_values_are_put_into_the_bases_model(models: Path) -> None:
    from twin_merging.checkpoints.opening import open_models

    _, experts = open_models(models / "base", {"a": models / "a"})
    model: Any = AutoModelForCausalLM.from_pretrained(models / "base").eval()
    load_expert(model, experts["a"])
    wanted: Any = AutoModelForCausalLM.from_pretrained(models / "a").eval()
    assert torch.equal(model(**PROMPT).logits, wanted(**PROMPT).logits)


def test_what_does_not_work_for_rows_of_own_weights_says_so() -> None:
    dense = DenseLanguageModel("llama", fraction=0.5)
    model = dense.twin(router_of(dense.config.hidden_size))
    for name in ("generate_batch", "init_continuous_batching", "continuous_batching_context_manager"):
        assert hasattr(GenerationMixin, name)  # a name that transformers no longer has is to be removed here
        with pytest.raises(NotImplementedError, match=f"{name}: continuous batching lays all prompts in one row"):
            getattr(model, name)([[5, 6, 7]])
    found = model.generate(**PROMPT, return_dict_in_generate=True, output_scores=True, **OPTIONS)
    scores = model.compute_transition_scores(found.sequences, found.scores, normalize_logits=True)
    assert scores.shape == (1, 5)
    for assistance in ({"prompt_lookup_num_tokens": 2}, {"assistant_model": dense.shared}):
        assert torch.equal(model.generate(**PROMPT, **assistance, **OPTIONS), found.sequences)


def test_a_suite_of_language_models_has_one_model_for_both_protocols(tmp_path: Path) -> None:
    suite = load(tmp_path, edited({"protocol": "reference"}, DECODER))
    assert suite.methods["sum"].protocol == "strict"
    assert suite.private_groups("sum") == ["head"]
    twice = {"methods/again": {"method": "task_arithmetic", "protocol": "reference"}}
    refused(tmp_path, edited(twice, DECODER), "methods.again: under protocol reference it is the same model as 'sum'")
    own = {"protocols": {"own": {"bias": "expert"}}, "methods/sum/protocol": "own"}
    assert load(tmp_path, edited(own, DECODER)).private_groups("sum") == ["head", "bias"]
