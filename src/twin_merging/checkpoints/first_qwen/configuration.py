"""What the config.json of a first Qwen says, checked, and the same as a Qwen2's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twin_merging.checkpoints.first_qwen.names import MODEL_TYPE
from twin_merging.errors import UserError

_SIZES = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "seq_length")
_NUMBERS = ("layer_norm_epsilon", "rotary_emb_base")
# Keys that change what the model computes, the value with which it is a Qwen2, and the value that it has by default.
_ONLY = (
    ("scale_attn_weights", True, True),
    ("no_bias", True, True),
    ("rotary_pct", 1.0, 1.0),
    ("emb_dropout_prob", 0.0, 0.0),
    ("use_cache_quantization", False, False),
    ("visual", None, None),
    ("audio", None, None),
)


def is_first_qwen(raw: Mapping[str, Any]) -> bool:
    """Whether a config.json is that of a first Qwen."""
    return raw.get("model_type") == MODEL_TYPE


def qwen2_config(directory: Path, raw: Mapping[str, Any]) -> Any:
    """The configuration of the Qwen2 that computes the same. Raises UserError, naming the key, where there is none."""
    import transformers

    where = f"{directory}/config.json"
    for key in (*_SIZES, *_NUMBERS):
        value = raw.get(key)
        if value is None:
            raise UserError(f"{where}: key '{key}' is missing, which a first Qwen's has; fetch it again")
        _check_number(where, key, value, key in _SIZES)
    for key, wanted, default in _ONLY:
        value = raw.get(key, default)
        if value != wanted:
            raise UserError(
                f"{where}: {key} is {value!r:.60}, but a first Qwen is converted with {wanted!r} alone, since a Qwen2 "
                "computes nothing else; name a model that transformers has"
            )
    width, heads = raw["hidden_size"], raw["num_attention_heads"]
    channels = raw.get("kv_channels", 128)
    if channels * heads != width or channels % 2:
        raise UserError(
            f"{where}: hidden_size {width} is not {heads} heads of kv_channels {channels!r:.20}, an even number; "
            "correct config.json"
        )
    if raw["intermediate_size"] % 2:
        raise UserError(
            f"{where}: intermediate_size {raw['intermediate_size']} is odd, but w1 and w2 have half of it each; "
            "correct config.json"
        )
    return transformers.Qwen2Config(
        vocab_size=raw["vocab_size"],
        hidden_size=width,
        intermediate_size=raw["intermediate_size"] // 2,
        num_hidden_layers=raw["num_hidden_layers"],
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=raw["seq_length"],
        max_window_layers=raw["num_hidden_layers"],
        initializer_range=raw.get("initializer_range", 0.02),
        rms_norm_eps=float(raw["layer_norm_epsilon"]),
        rope_parameters={"rope_type": "default", "rope_theta": float(raw["rotary_emb_base"])},
        attention_dropout=raw.get("attn_dropout_prob", 0.0),
        use_sliding_window=False,
        tie_word_embeddings=bool(raw.get("tie_word_embeddings", False)),
        architectures=["Qwen2ForCausalLM"],
    )


def _check_number(where: str, key: str, value: Any, is_size: bool) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or value <= 0 or (is_size and not isinstance(value, int)):
        kind = "a whole number from 1" if is_size else "a number above 0"
        raise UserError(f"{where}: {key} is {value!r:.60}, but it must be {kind}; fetch it again")
