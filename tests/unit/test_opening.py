"""What a merge of the library makes of checkpoints as people have them, by the kinds of what is odd in them."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from tests.messages import one_sentence
from twin_merging import merge
from twin_merging.checkpoints import opening
from twin_merging.errors import UserError
from twin_merging.io.files import read_json
from twin_merging.io.tensors import INDEX, WEIGHTS

Tensors = dict[str, torch.Tensor]
SIZES: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
IDS = torch.arange(3, 11)[None]


def build(kind: str, **more: Any) -> Any:
    """A tiny model of a class of transformers, always with the same first values."""
    cls = getattr(transformers, kind)
    gpt2 = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64} if "GPT2" in kind else {}
    t5 = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2} if "T5" in kind else {}
    key_values = {"num_key_value_heads": 2} if kind.startswith(("Llama", "Qwen2", "Mistral", "Gemma2")) else {}
    torch.manual_seed(0)
    return cls(cls.config_class(**{**SIZES, **gpt2, **t5, **key_values, **more})).eval()


def noisy(model: Any, seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


def saved(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    return folder


def edit(folder: Path, change: Callable[[Tensors], Any], metadata: Mapping[str, str] | None = None) -> Path:
    """Change the tensors of a folder in place."""
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, {"format": "pt", **(metadata or {})})
    return folder


def configured(folder: Path, **values: Any) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))
    return folder


def mean(base: Path, *experts: Path, **options: Any) -> Path:
    named = {f"expert{number}": expert for number, expert in enumerate(experts)}
    return merge("weight_average", base=base, experts=named, output=base.parent / "out", threads=1, **options)


def refused(base: Path, expert: Path, *words: str, **options: Any) -> None:
    with pytest.raises(UserError) as caught:
        mean(base, expert, **options)
    one_sentence(caught.value, *words)
    assert not (base.parent / "out").exists()


def says(folder: Path) -> torch.Tensor:
    """The logits of a language model as transformers loads it; nothing of it may be made up."""
    model, told = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not told["missing_keys"]
    with torch.no_grad():
        return model.eval()(IDS).logits


# -- what a head is


def test_the_head_of_a_token_classifier_stays_its_own(tmp_path: Path) -> None:
    base = saved(build("BertForMaskedLM"), tmp_path / "base")
    expert = noisy(build("BertForTokenClassification", num_labels=5), 1)
    out = mean(base, saved(expert, tmp_path / "a"))
    private = load_file(out / "private" / "expert0.safetensors")
    assert torch.equal(private["classifier.weight"], expert.classifier.weight)
    assert not any(name.startswith(("cls.", "classifier.")) for name in load_file(out / WEIGHTS))


def test_copies_of_t5s_embedding_are_one_parameter(tmp_path: Path) -> None:
    base, expert = build("T5ForConditionalGeneration"), noisy(build("T5ForConditionalGeneration"), 1)
    saved(base, tmp_path / "base")
    saved(expert, tmp_path / "a")
    shared = load_file(tmp_path / "a" / WEIGHTS)["shared.weight"]
    copies = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")
    edit(tmp_path / "a", lambda tensors: tensors.update({name: shared.clone() for name in copies}))
    out = mean(tmp_path / "base", tmp_path / "a")
    assert torch.equal(load_file(out / WEIGHTS)["shared.weight"], shared)
    assert load_file(out / "private" / "expert0.safetensors") == {}


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"model.layers.2.mlp.up_proj.weight": torch.ones(24, 16)}, ("layers.2.mlp.up_proj", "fits no parameter")),
        ({"model.layers.0.self_attn.q_proj.lora_A.weight": torch.ones(2, 16)}, ("lora_A", "belongs to an adapter")),
        ({"model.layers.0.self_attn.q_proj.bias": torch.ones(16)}, ("q_proj.bias", "fits no parameter")),
        ({"value_head.weight": torch.ones(1, 16)}, ("value_head.weight", "fits no parameter")),
        ({"lm_head.weight": torch.ones(40, 16)}, ("lm_head.weight", "is not the same", "tie_word_embeddings")),
        ({"model.embed_tokens.weight": torch.ones(40, 16), "embed_tokens.weight": torch.zeros(40, 16)},
         ("embed_tokens.weight", "under another name", "other values")),
    ],
    ids=["a layer", "a factor", "a bias", "a value head", "a trained output layer", "two names"],
)  # fmt: skip
def test_what_the_class_has_no_place_for_stops_with_its_name(
    tmp_path: Path, extra: Tensors, words: tuple[str, ...]
) -> None:
    base = saved(build("LlamaForCausalLM", tie_word_embeddings=True), tmp_path / "base")
    expert = saved(noisy(build("LlamaForCausalLM", tie_word_embeddings=True), 1), tmp_path / "a")
    edit(expert, lambda tensors: tensors.update(extra))
    refused(base, expert, str(expert), *words)


@pytest.mark.parametrize(
    "extra",
    [
        {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)},
        {"model.rotary_emb.inv_freq": torch.ones(4)},
        {"model.layers.1.self_attn.bias": torch.ones(1, 1, 64, 64).tril()},
        {"model.layers.1.self_attn.masked_bias": torch.tensor(-1e4)},
        {"score.weight": torch.ones(3, 16)},
    ],
    ids=lambda extra: next(iter(extra)),
)
def test_buffers_of_older_code_and_another_head_are_left_out_and_said(
    tmp_path: Path, extra: Tensors, caplog: pytest.LogCaptureFixture
) -> None:
    base = saved(build("LlamaForCausalLM"), tmp_path / "base")
    expert = saved(noisy(build("LlamaForCausalLM"), 1), tmp_path / "a")
    wanted = says(expert)
    edit(expert, lambda tensors: tensors.update(extra))
    with caplog.at_level(logging.INFO, "twin_merging"):
        out = mean(base, expert)
    torch.testing.assert_close(says(out), wanted, rtol=0, atol=1e-5)
    assert next(iter(extra)) in caplog.text


def test_an_experts_masked_language_model_is_left_out_with_a_warning_where_the_base_has_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = saved(build("BertModel"), tmp_path / "base")
    expert = saved(noisy(build("BertForMaskedLM"), 1), tmp_path / "a")
    out = mean(base, expert)
    query = "encoder.layer.0.attention.self.query.weight"
    torch.testing.assert_close(load_file(out / WEIGHTS)[query], load_file(expert / WEIGHTS)[f"bert.{query}"])
    assert "cls.predictions.transform.dense.weight" in caplog.text
    assert "not merged" in caplog.text


# -- a language model's output layer


def test_a_tied_expert_is_untied_on_a_base_with_an_output_layer_of_its_own(tmp_path: Path) -> None:
    base = saved(noisy(build("GPT2LMHeadModel", tie_word_embeddings=False), 1), tmp_path / "base")
    tied = saved(noisy(build("GPT2LMHeadModel", tie_word_embeddings=True), 2), tmp_path / "tied")
    torch.testing.assert_close(says(mean(base, tied)), says(tied), rtol=0, atol=1e-5)


def test_an_untied_expert_whose_output_layer_is_its_embedding_fits_a_tied_base(tmp_path: Path) -> None:
    base = saved(noisy(build("Qwen2ForCausalLM", tie_word_embeddings=True), 1), tmp_path / "base")
    expert = build("Qwen2ForCausalLM", tie_word_embeddings=False)
    noisy(expert, 2).lm_head.weight.data.copy_(expert.model.embed_tokens.weight)
    saved(expert, tmp_path / "a")
    torch.testing.assert_close(says(mean(base, tmp_path / "a")), says(tmp_path / "a"), rtol=0, atol=1e-5)


def test_what_safetensors_names_as_an_alias_is_read(tmp_path: Path) -> None:
    """As safetensors.torch.save_model writes shared tensors: the first name is stored, the other is metadata."""
    base = saved(noisy(build("LlamaForCausalLM", tie_word_embeddings=True), 1), tmp_path / "base")
    expert = saved(noisy(build("LlamaForCausalLM", tie_word_embeddings=True), 2), tmp_path / "a")
    wanted = says(expert)
    for folder in (base, expert):
        edit(folder, lambda tensors: tensors.update({"lm_head.weight": tensors.pop("model.embed_tokens.weight")}),
             {"model.embed_tokens.weight": "lm_head.weight"})  # fmt: skip
    out = mean(base, expert)
    assert "model.embed_tokens.weight" in load_file(out / WEIGHTS)
    torch.testing.assert_close(says(out), wanted, rtol=0, atol=1e-5)


def test_a_body_alone_is_no_expert_of_a_whole_language_model(tmp_path: Path) -> None:
    base = saved(build("LlamaForCausalLM", tie_word_embeddings=False), tmp_path / "base")
    refused(base, saved(noisy(build("LlamaModel"), 1), tmp_path / "a"), "lm_head.weight", "output layer", "body alone")


@pytest.mark.parametrize(
    "settings",
    [{"modules_to_save": ["embed_tokens"]}, {"modules_to_save": ["lm_head"]}, {"target_modules": ["embed_tokens"]}],
    ids=["embedding whole", "output layer whole", "embedding by LoRA"],
)
def test_an_adapter_that_changes_one_of_two_tied_layers_is_refused(tmp_path: Path, settings: dict[str, Any]) -> None:
    base = saved(build("LlamaForCausalLM", tie_word_embeddings=True), tmp_path / "base")
    adapter(build("LlamaForCausalLM", tie_word_embeddings=True), tmp_path / "a", **settings)
    refused(base, tmp_path / "a", "embed_tokens.weight", "tied to 'lm_head.weight'", "tie_word_embeddings: false")


# -- quantised checkpoints

QUERY = "model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({f"{QUERY}.W_q": torch.ones(8, 8, dtype=torch.uint8)}, ("W_q", "belongs to a quantised weight")),
        ({f"{QUERY}.weight_packed": torch.ones(16, 2, dtype=torch.int32)}, ("weight_packed", "dequantize()")),
        ({f"{QUERY}.weight": torch.ones(16, 16, dtype=torch.int8)}, ("q_proj.weight", "is int8")),
        ({f"{QUERY}.weight": torch.ones(16, 16).to(torch.float8_e5m2)}, ("q_proj.weight", "F8_E5M2", "quantised")),
        ({f"{QUERY}.weight.quant_state.bitsandbytes__fp4": torch.ones(9, dtype=torch.uint8)}, ("quant_state",)),
    ],
    ids=["HQQ", "compressed-tensors", "integers", "fp8 without scales", "bitsandbytes fp4"],
)
@pytest.mark.parametrize("side", ["base", "a"])
def test_quantised_weights_are_refused(tmp_path: Path, side: str, parts: Tensors, words: tuple[str, ...]) -> None:
    for folder in ("base", "a"):
        saved(build("LlamaForCausalLM"), tmp_path / folder)
    edit(tmp_path / side, lambda tensors: tensors.update(parts))
    refused(tmp_path / "base", tmp_path / "a", str(tmp_path / side), *words)


def test_a_quantisation_that_the_configuration_tells_is_refused_by_its_name(tmp_path: Path) -> None:
    base, expert = (saved(build("LlamaForCausalLM"), tmp_path / name) for name in ("base", "a"))
    configured(expert, quantization_config={"quant_method": "hqq"})
    refused(base, expert, f"{expert}/config.json", "quantization_config says hqq", "the model that it was made from")


def test_integers_of_which_nothing_is_known_must_be_the_same_everywhere(tmp_path: Path) -> None:
    base, expert = (saved(build("LlamaForCausalLM"), tmp_path / name) for name in ("base", "a"))
    for folder in (base, expert):
        edit(folder, lambda tensors: tensors.update(tokens_seen=torch.tensor([3, 4])))
    assert load_file(mean(base, expert) / WEIGHTS)["tokens_seen"].tolist() == [3, 4]
    edit(expert, lambda tensors: tensors.update(tokens_seen=torch.tensor([3, 5])))
    with pytest.raises(UserError) as caught:
        mean(base, expert, overwrite=True)
    one_sentence(caught.value, "tokens_seen", "integers", "not the same")


# -- the same family

OTHERWISE: dict[str, tuple[str, dict[str, Any], str]] = {
    "window": ("MistralForCausalLM", {"sliding_window": 8}, "sliding_window is 8, but 4096 in the base"),
    "epsilon": ("BertModel", {"layer_norm_eps": 1e-3}, "layer_norm_eps is 0.001, but 1e-12 in the base"),
    "softcap": ("Gemma2ForCausalLM", {"final_logit_softcapping": 5.0}, "final_logit_softcapping is 5.0, but 30.0"),
    "base of rotation": (
        "LlamaForCausalLM",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
        "rope_parameters.rope_theta is 500000.0, but 10000.0",
    ),
    "scaled rotation": (
        "LlamaForCausalLM",
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}},
        "rope_parameters.rope_type is 'linear', but 'default'",
    ),
}


@pytest.mark.parametrize("case", OTHERWISE)
def test_a_field_that_a_forward_pass_reads_must_agree_or_be_allowed(tmp_path: Path, case: str) -> None:
    kind, values, said = OTHERWISE[case]
    base, expert = saved(build(kind), tmp_path / "base"), saved(noisy(build(kind, **values), 1), tmp_path / "a")
    refused(base, expert, f"{expert}/config.json", said, f"allow_differences: [{said.split()[0]}]")
    assert (mean(base, expert, allow_differences=[next(iter(values))]) / WEIGHTS).is_file()


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("Qwen2ForCausalLM", {"max_position_embeddings": 512, "max_window_layers": 1, "use_sliding_window": False}),
        ("BertModel", {"hidden_dropout_prob": 0.5, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.5}),
        ("LlamaForCausalLM", {"eos_token_id": 9, "use_cache": False, "pretraining_tp": 2}),
    ],
)
def test_fields_that_no_forward_pass_reads_may_differ(tmp_path: Path, kind: str, values: dict[str, Any]) -> None:
    base = saved(build(kind), tmp_path / "base")
    assert (mean(base, saved(noisy(build(kind, **values), 1), tmp_path / "a")) / WEIGHTS).is_file()


# -- adapters


def adapter(model: Any, folder: Path, **settings: Any) -> Any:
    """A trained-looking adapter in a folder; gives the PEFT model."""
    from peft import LoraConfig, get_peft_model

    own = {"r": 2, "lora_alpha": 4, "task_type": "CAUSAL_LM", "target_modules": ["q_proj"], **settings}
    tuned: Any = get_peft_model(model, LoraConfig(**own))
    for parameter in tuned.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    tuned.save_pretrained(folder)
    return tuned


@pytest.mark.filterwarnings("ignore")
def test_an_adapter_of_gpt2_changes_its_turned_matrices_as_peft_does(tmp_path: Path) -> None:
    base = saved(noisy(build("GPT2LMHeadModel"), 1), tmp_path / "base")
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    tuned = adapter(model, tmp_path / "a", target_modules=["c_attn", "c_proj"])
    wanted = tuned.merge_and_unload().eval()(IDS).logits.detach()
    torch.testing.assert_close(says(mean(base, tmp_path / "a")), wanted, rtol=0, atol=1e-4)


STEM = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("settings", "change", "words"),
    [
        ({"lora_alpha": -4}, None, ("lora_alpha is -4", "above 0")),
        ({"r": 2.5}, None, ("r is 2.5", "whole number")),
        ({"rank_pattern": {"q_proj": 3}}, None, ("lora_A", "rank 2", "says 3")),
        ({"alpha_pattern": {"q_proj(": 3}}, None, ("alpha_pattern", "q_proj(", "no regular expression")),
        ({"modules_to_save": "lm_head"}, None, ("modules_to_save is 'lm_head'", "list of names")),
        ({}, {f"{STEM}.lora_A.weight": torch.ones(2, 16, 1, 1)}, ("lora_A", "[2, 16, 1, 1]", "two dimensions")),
        ({}, {f"{STEM}.lora_B.weight": torch.ones(16, 3)}, ("lora_B", "rank 3", "says 2")),
        ({}, {f"{STEM}.lora_A.other.weight": torch.ones(2, 16)}, ("several adapters", "'other'")),
        ({}, {"base_model.model.model.norm.weight": torch.ones(16)}, ("model.norm.weight", "modules_to_save")),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_an_adapter_is_checked_before_any_arithmetic(
    tmp_path: Path, settings: dict[str, Any], change: Tensors | None, words: tuple[str, ...]
) -> None:
    base = saved(build("LlamaForCausalLM"), tmp_path / "base")
    adapter(build("LlamaForCausalLM"), tmp_path / "a")
    file = tmp_path / "a" / "adapter_config.json"
    file.write_text(json.dumps({**read_json(file), **settings}))
    weights = tmp_path / "a" / "adapter_model.safetensors"
    save_file({**load_file(weights), **(change or {})}, weights, {"format": "pt"})
    refused(base, tmp_path / "a", str(tmp_path / "a"), *words)


# -- files as they lie


def test_a_folder_saved_twice_is_read_as_transformers_reads_it(tmp_path: Path) -> None:
    base = saved(build("BertModel"), tmp_path / "base")
    noisy(build("BertModel"), 1).save_pretrained(tmp_path / "a", max_shard_size="4KB")
    index = (tmp_path / "a" / INDEX).read_text()
    expert = saved(noisy(build("BertModel"), 2), tmp_path / "a")
    (expert / INDEX).write_text(index)
    out = load_file(mean(base, expert) / WEIGHTS)
    own = {name: tensor for name, tensor in load_file(expert / WEIGHTS).items() if "pooler" not in name}
    assert all(torch.equal(out[name], tensor) for name, tensor in own.items())


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ({"weight_map": {"x": "../elsewhere.safetensors"}}, ("../elsewhere.safetensors", "no file beside it")),
        ({"weight_map": {"x": "model-9.safetensors"}}, ("model-9.safetensors", "not there")),
        ({"weight_map": {}}, ("no weight_map",)),
        ({"weight_map": {"x": 3}}, ("no weight_map",)),
    ],
)
def test_an_index_that_is_wrong_is_named(tmp_path: Path, index: dict[str, Any], words: tuple[str, ...]) -> None:
    base, expert = (saved(build("BertModel"), tmp_path / name) for name in ("base", "a"))
    (expert / WEIGHTS).unlink()
    (expert / INDEX).write_text(json.dumps(index))
    refused(base, expert, str(expert / INDEX), *words)


@pytest.mark.parametrize("prefix", ["module.model.", "_orig_mod.", "module._orig_mod.", "_fsdp_wrapped_module."])
@pytest.mark.parametrize("side", ["base", "a"])
def test_what_trainings_wrappers_put_before_names_is_taken_off(tmp_path: Path, prefix: str, side: str) -> None:
    base, expert = saved(build("LlamaForCausalLM"), tmp_path / "base"), noisy(build("LlamaForCausalLM"), 1)
    saved(expert, tmp_path / "a")
    wanted = says(tmp_path / "a")
    before = "module." if prefix == "module.model." else prefix

    def wrap(tensors: Tensors) -> None:
        for name in list(tensors):
            tensors[f"{before}{name}"] = tensors.pop(name)

    edit(tmp_path / side, wrap)
    torch.testing.assert_close(says(mean(base, tmp_path / "a")), wanted, rtol=0, atol=1e-5)


def test_a_model_type_that_transformers_does_not_know_is_merged_where_all_names_are_the_same(tmp_path: Path) -> None:
    for number, name in enumerate(("base", "a")):
        (tmp_path / name).mkdir()
        save_file({"block.weight": torch.full((3, 3), float(number))}, tmp_path / name / WEIGHTS, {"format": "pt"})
        (tmp_path / name / "config.json").write_text('{"model_type": "nobodys-own"}')
    assert load_file(mean(tmp_path / "base", tmp_path / "a") / WEIGHTS)["block.weight"].eq(1).all()
    edit(tmp_path / "a", lambda tensors: tensors.update({"classifier.weight": torch.ones(2, 3)}))
    with pytest.raises(UserError) as caught:
        mean(tmp_path / "base", tmp_path / "a", overwrite=True)
    one_sentence(caught.value, "classifier.weight", "not in the base")


# -- models that are alike


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("LlamaForCausalLM", {"tie_word_embeddings": False}),
        ("Qwen2ForCausalLM", {"tie_word_embeddings": True}),
        ("RobertaForMaskedLM", {}),
        ("BertModel", {}),
    ],
)
def test_models_that_are_alike_are_merged_as_when_transformers_is_asked(
    tmp_path: Path, kind: str, more: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = saved(build(kind, **more), tmp_path / "base")
    experts = {name: saved(noisy(build(kind, **more), seed), tmp_path / name) for seed, name in enumerate("ab", 1)}
    assert opening.open_alike(base, experts)
    out = [merge("ties", base=base, experts=experts, output=tmp_path / "alike", density=0.4)]
    monkeypatch.setattr(opening, "open_alike", lambda *_: None)
    out.append(merge("ties", base=base, experts=experts, output=tmp_path / "asked", density=0.4))
    for file in (WEIGHTS, "private/a.safetensors", "private/b.safetensors"):
        assert (out[0] / file).read_bytes() == (out[1] / file).read_bytes()


ALIKE_NO_MORE: dict[str, Callable[[Path], Any]] = {
    "a head": lambda folder: edit(folder, lambda tensors: tensors.update({"classifier.weight": torch.ones(2, 16)})),
    "a task's class": lambda folder: configured(folder, architectures=["LlamaForSequenceClassification"]),
    "no class": lambda folder: configured(folder, architectures=None),
    "another rotation": lambda folder: configured(folder, rope_parameters={"rope_type": "default", "rope_theta": 9.0}),
    "a tie": lambda folder: configured(folder, tie_word_embeddings=True),
    "a buffer": lambda folder: edit(
        folder, lambda tensors: tensors.update({"model.rotary_emb.inv_freq": torch.ones(4)})
    ),
    "integers": lambda folder: edit(folder, lambda tensors: tensors.update(seen=torch.ones(2, dtype=torch.int64))),
    "an alias": lambda folder: edit(folder, lambda tensors: None, {"other.weight": "lm_head.weight"}),
    "a tensor less": lambda folder: edit(folder, lambda tensors: tensors.pop("model.norm.weight")),
    "a name": lambda folder: edit(folder, lambda tensors: tensors.update({"x": tensors.pop("model.norm.weight")})),
    "a shape": lambda folder: edit(folder, lambda tensors: tensors.update({"model.norm.weight": torch.ones(17)})),
    "a wrapper": lambda folder: edit(
        folder, lambda tensors: tensors.update({"model._orig_mod.norm.weight": tensors.pop("model.norm.weight")})
    ),
}


@pytest.mark.parametrize("what", ALIKE_NO_MORE)
@pytest.mark.parametrize("sides", [("a",), ("base", "a")], ids=["expert", "both"])
def test_transformers_is_asked_where_something_has_to_be(tmp_path: Path, what: str, sides: tuple[str, ...]) -> None:
    for name in ("base", "a"):
        saved(build("LlamaForCausalLM", tie_word_embeddings=False), tmp_path / name)
    assert opening.open_alike(tmp_path / "base", {"a": tmp_path / "a"})
    for side in sides:
        ALIKE_NO_MORE[what](tmp_path / side)
    alone = len(sides) == 1 or what not in ("another rotation", "a tensor less", "a name", "a shape")
    assert (opening.open_alike(tmp_path / "base", {"a": tmp_path / "a"}) is None) or not alone


def test_merging_models_that_are_alike_does_not_import_transformers(tmp_path: Path) -> None:
    base, expert = (saved(build("LlamaForCausalLM"), tmp_path / name) for name in ("base", "a"))
    code = f"""
import sys, twin_merging
where = dict(base={str(base)!r}, output={str(tmp_path / "out")!r})
twin_merging.merge("weight_average", experts={{"a": {str(expert)!r}}}, **where)
assert "transformers" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
