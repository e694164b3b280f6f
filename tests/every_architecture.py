"""A tiny model of every architecture that transformers has a language model or a sequence classifier of.

The configurations are found by asking: of each configuration class the fields that say a size are made small, one layer
of each kind that the class has is kept, and what this does not fit stands in OVERRIDES with its reason.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

VOCABULARY, LENGTH = 64, 7
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
CAUSAL, CLASSIFIER, MASKED = "AutoModelForCausalLM", "AutoModelForSequenceClassification", "AutoModelForMaskedLM"
KINDS: dict[str, Mapping[str, Any]] = {
    CAUSAL: modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    CLASSIFIER: modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
}
MASKED_TYPES = modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES

# Fields of configurations by their names, and what becomes of them where it is less; the first that fits counts.
SIZES = {
    r".*vocab(ulary)?_size.*|n_words": VOCABULARY,
    r"(.*_)?(num_|n_)?(hidden_|encoder_|decoder_)*(layers?|blocks)(_count)?": 2,
    r".*head_dim|.*d_kv|d_head|head_size|.*_nope_.*dim|rotary_dim|.*_rope_.*dim": 8,
    r".*heads?(_count)?(_.*)?|n_head": 2,
    r".*(experts_per_tok(en)?|topk|top_k|moe_k)|n_group|topk_group|(n|num)_shared_experts": 1,
    r".*(num|n)_(routed_|local_)?experts": 2,
    r"hidden_size|d_model|n_embd|dim|dim_model|emb_dim|.*embedding_size|word_embed_proj_dim|.*_hidden_size"
    r"|embed_dim|hidden_dim": 16,
    r".*intermediate_size.*|.*ffn_dim|dff|dim_ff|n_inner|d_ff|d_inner|inner_size|ffn_.*size|.*mlp.*size": 16,
    r".*_rank|ff_dim": 16,
    r"max_position_embeddings|n_positions|n_ctx|max_seq_len(gth)?|seq_length|max_.*positions.*": 64,
}
_MAMBA = {"mamba_n_heads": 4, "mamba_d_head": 8}  # heads times their size are twice the hidden size
_HEAD = {"head_dim": 8}
_INDEXER = {
    "indexer_n_heads": 2,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 8,
    "indexer_budget": 4,
    "indexer_compress_ratio": 2,
}
_ROPE = {"rope_theta": 1e4, "rope_type": "default"}
_LINEAR_AND_FULL = {"layer_types": ["linear_attention", "full_attention"]}
_ZAMBA = {"layer_types": ["linear_attention", "hybrid", "hybrid"], "num_hidden_layers": 3}
NO_VALUE = "no value"  # in OVERRIDES: leave the field to the class

# Of a type: why, and which fields have other values than SIZES gives them.
OVERRIDES: dict[str, tuple[str, dict[str, Any]]] = {
    "bamba": (
        "heads fit the hidden size; one layer of attention",
        _MAMBA | {"attn_layer_indices": [1], "layer_types": NO_VALUE},
    ),
    "falcon_h1": (
        "heads fit the hidden size; its layers are all of one kind",
        _MAMBA | {"mamba_d_ssm": 32, "layer_types": NO_VALUE},
    ),
    "granitemoehybrid": ("heads fit the hidden size; one layer of attention", _MAMBA | _LINEAR_AND_FULL),
    "mamba2": ("heads fit the hidden size", {"num_heads": 4, "head_dim": 8, "n_groups": 1}),
    "nemotron_h": ("groups divide heads", {"n_groups": 1}),
    "gpt_neo": ("a list with an entry a layer", {"attention_types": [[["global", "local"], 1]]}),
    "hunyuan_v1_dense": ("no default", _HEAD),
    "hunyuan_v1_moe": ("no default", _HEAD),
    "ministral": ("no default", _HEAD),
    "nemotron": ("no default", {"num_key_value_heads": 2}),
    "xlnet": ("heads fit the hidden size", {"d_head": 8}),
    "xmod": ("a text's language is asked for", {"default_language": "en_XX"}),
    "t5": ("no default", {"decoder_start_token_id": 0}),
    "deepseek_v2": ("no default", {"num_experts_per_tok": 1}),
    "dots1": ("no default", {"n_routed_experts": 2, "num_experts_per_tok": 1, "n_shared_experts": 1}),
    "reformer": ("a decoder; positions in two factors", {"is_decoder": True, "axial_pos_embds": False}),
    "codegen": ("its matrices are split in four", {"n_head": 4, "rotary_dim": 4, "n_embd": 32}),
    "lilt": ("boxes' sizes are a sixth and a quarter", {"hidden_size": 24}),
    "esm": ("no default", {"vocab_size": VOCABULARY, "position_embedding_type": "rotary"}),
    "mobilebert": ("two sizes that are one", {"true_hidden_size": 16, "intra_bottleneck_size": 16}),
    "mistral4": ("two sizes that sum to a head's", {"qk_rope_head_dim": 4, "qk_nope_head_dim": 4}),
    "perceiver": (
        "words of its own for sizes",
        {"num_self_attends_per_block": 2, "d_latents": 16, "num_latents": 4, "image_size": 4},
    ),
    "cohere_compass_text": (
        "positions by kinds of layers",
        {
            "layer_types": ["full_attention", "sliding_attention"],
            "rope_parameters": {"full_attention": _ROPE, "sliding_attention": _ROPE},
        },
    ),
    "gemma3n_text": ("no layer shares another's keys", {"num_kv_shared_layers": 0, "intermediate_size": [16, 16]}),
    "lfm2_moe": ("no default", {"layer_types": ["conv", "full_attention"]}),
    "jamba": ("one layer of attention", {"attn_layer_period": 2, "attn_layer_offset": 1}),
    "recurrent_gemma": (
        "one layer of attention",
        {"block_types": ["recurrent", "attention"], "layers_block_type": NO_VALUE, "layer_types": NO_VALUE},
    ),
    "longcat_flash": ("sizes that sum to a head's", {"zero_expert_num": 1, "qk_head_dim": 16, "moe_topk": 2}),
    "qwen4_exp_text": ("no default", _INDEXER),
    "qwen4_exp": ("no default", {"text_config": _INDEXER}),
    "zamba": (
        "two layers of attention, which share it; its size is twice the hidden one",
        {"attention_hidden_size": NO_VALUE, "attention_head_dim": NO_VALUE, **_ZAMBA},
    ),
    "zamba2": (
        "one layer of attention; its size is twice the hidden one",
        {
            "attention_hidden_size": NO_VALUE,
            "attention_head_dim": NO_VALUE,
            "layer_types": NO_VALUE,
            "layers_block_type": ["linear_attention", "hybrid"],
        },
    ),
    "markuplm": ("its tables of a page's paths", {"xpath_unit_hidden_size": 8, "max_depth": 20}),
    "phi4_multimodal": (
        "words of its own for a sound's sizes",
        {"audio_config": {"hidden_size": 16, "nemo_conv_channels": 16, "input_size": 8}},
    ),
    "got_ocr2": ("a word of its own for a picture's size", {"vision_config": {"output_channels": 8}}),
    "layoutlmv3": ("texts alone; boxes' sizes", {"visual_embed": False, "coordinate_size": 2, "shape_size": 4}),
    "mimo_v2_flash": ("two heads share a key", {"num_attention_heads": 4, "num_key_value_heads": 2}),
    "dots3_note_text": ("sizes that sum to a head's", {"per_layer_config": None, "head_dim": 16}),
    "xlstm": ("sizes that are multiples of 64", {"hidden_size": 128}),
    "dbrx": (
        "words of its own for sizes; a field that its class does not have, and its model reads",
        {
            "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8},
            "ffn_config": {"ffn_hidden_size": 16, "hidden_size": 16, "moe_num_experts": 2, "moe_top_k": 1},
        },
    ),
}

# Types that no tiny configuration can build here: a part of what is said, and whose fault it is.
NOT_TINY: dict[str, tuple[str, str]] = {
    "blt": ("has no attribute 'num_hidden_layers'", "its cache asks its configuration for a field that it has not"),
    "dots3_note": ("`per_layer_config` keys must be", "two layers of a text's, but a picture's defaults for 42"),
    "gemma3n": ("requires the timm library", "its pictures need a package"),
    "gemma4_assistant": ("hidden_size_per_layer_input must be 0", "it is no model without the one that it assists"),
    "gemma4_unified_assistant": ("The set of layer types", "it is no model without the one that it assists"),
    "musicgen": ("has no attribute 'dropout'", "its class is made of three models' configurations"),
    "musicgen_melody": ("has no attribute 'dropout'", "its class is made of three models' configurations"),
    "dots3_note_text": ("ignore_mismatched_sizes", "it is of another size after it is saved and loaded"),
    "emu3": ("Unrecognized configuration class", "transformers cannot load what it saves of it"),
    "mllama": ("Unrecognized configuration class", "transformers cannot load what it saves of it"),
    "layoutlmv2": ("requires the detectron2 library", "its pictures need a package"),
}


def configuration(kind: str, **more: Any) -> Any:
    """A tiny configuration of a model type. Raises what transformers raises where none can be made."""
    made = CONFIG_MAPPING[kind]
    changes = OVERRIDES[kind][1] if kind in OVERRIDES else {}
    return made(**{**_changed(_small(made()), changes), **IDS, **more})


def _small(default: Any) -> dict[str, Any]:
    """Values for those fields of a configuration that say a size, and for the configurations in it."""
    found: dict[str, Any] = {}
    for field, value in default.to_dict().items():
        if field in default.sub_configs:
            if (inner := getattr(default, field)) is not None:
                found[field] = _small(inner)
        elif field in IDS or (re.fullmatch(r".*_token_id|.*token_index", field) and value is not None):
            found[field] = IDS.get(field, 3)
        elif type(value) is int and value > 0 and (size := _size_of(field)):
            found[field] = min(value, size)
    kinds = list(dict.fromkeys(getattr(default, "layer_types", None) or ()))
    if kinds and not isinstance(getattr(type(default), "layer_types", None), property):
        found["layer_types"] = kinds if len(kinds) > 1 else 2 * kinds
        found["num_hidden_layers"] = len(found["layer_types"])
    return found


def _size_of(field: str) -> int | None:
    return next((size for name, size in SIZES.items() if re.fullmatch(name, field)), None)


def _changed(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = {
        **values,
        **{name: {**values.get(name, {}), **new} if isinstance(new, dict) else new for name, new in changes.items()},
    }
    return {name: value for name, value in merged.items() if value is not NO_VALUE}


def model_of(auto: str, config: Any, seed: int = 0) -> Any:
    """A model whose parameters are all noise about what its class begins with."""
    torch.manual_seed(seed)
    return noisy(getattr(transformers, auto).from_config(copy.deepcopy(config)).eval(), seed)


def noisy(model: Any, seed: int, size: float = 0.05) -> Any:
    """The same model, every parameter moved a little, as fine-tuning would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))
    return model


def parameters(model: Any) -> dict[str, torch.Tensor]:
    """A model's parameters by name; a tied one stands once."""
    return {name: value.detach() for name, value in model.named_parameters()}


def filled(model: Any, values: Mapping[str, torch.Tensor]) -> Any:
    """The same model with other numbers in some of its parameters."""
    with torch.no_grad():
        for name, value in values.items():
            model.get_parameter(name).copy_(value)
    return model


def body_of(model: Any) -> Any:
    return getattr(model, model.base_model_prefix)


def classifier_configuration(kind: str, **more: Any) -> Any:
    """A tiny configuration of the type's classifier, and of its masked language model where it has one."""
    return configuration(kind, **({"is_decoder": False} if kind in MASKED_TYPES else {}), **more)


def classifier_bases(kind: str, begun: Any) -> dict[str, Any]:
    """Models that a classifier's body may come from: the body alone, and, where the type has one on the same body, a
    language model."""
    body = body_of(begun)
    alone = noisy(type(body)(classifier_configuration(kind)), seed=8)
    bases = {"body": filled(alone, _known(parameters(body), alone))}
    if kind in MASKED_TYPES or kind in KINDS[CAUSAL]:
        whole = model_of(MASKED if kind in MASKED_TYPES else CAUSAL, classifier_configuration(kind), seed=7)
        if type(body_of(whole)) is type(body):
            bases["language-model"] = filled(whole, _known(parameters(begun), whole))
    return bases


def _known(values: Mapping[str, torch.Tensor], model: Any) -> dict[str, torch.Tensor]:
    """Those of the values that belong to a parameter of a model, its tied ones included."""
    names = dict(model.named_parameters(remove_duplicate=False))
    return {name: value for name, value in values.items() if name in names}


def load(auto: str, folder: Path) -> Any:
    """A model as transformers loads it. Nothing may be missing in the folder, left over, or of another shape."""
    model, told = getattr(transformers, auto).from_pretrained(folder, output_loading_info=True)
    assert not any(told.values()), told
    return model.eval()


def saved_and_loaded(auto: str, kind: str, folder: Path) -> Any:
    """A tiny model of a type, after transformers saved and loaded it, that has answered."""
    model_of(auto, configuration(kind)).save_pretrained(folder)
    model = load(auto, folder)
    logits(model)
    return model


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    """What a model says of a fixed batch, whose texts end as an encoder-decoder's do."""
    ids = torch.randint(4, VOCABULARY - 4, (2, LENGTH), generator=torch.Generator().manual_seed(0))
    ids[:, -1] = IDS["eos_token_id"]
    return model(input_ids=ids).logits
