"""What the first Qwen's modules are called, and what they are in a Qwen2."""

from __future__ import annotations

import re

MODEL_TYPE = "qwen"
FUSED = "attn.c_attn"
_BESIDE = {"transformer.wte": "model.embed_tokens", "transformer.ln_f": "model.norm", "lm_head": "lm_head"}
# c_attn's rows are the queries', the keys' and the values', in three blocks of the same size. The MLP is
# c_proj(w1(x) * silu(w2(x))), so w2 is the gate.
_IN_LAYER = {
    "ln_1": ("input_layernorm",),
    "ln_2": ("post_attention_layernorm",),
    FUSED: ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attn.c_proj": ("self_attn.o_proj",),
    "mlp.w1": ("mlp.up_proj",),
    "mlp.w2": ("mlp.gate_proj",),
    "mlp.c_proj": ("mlp.down_proj",),
}
_LAYER = re.compile(r"transformer\.h\.(\d+)\.(.+)")


def modules_of(module: str) -> tuple[str, ...]:
    """The Qwen2's modules that one of the first Qwen's becomes, in the order of its rows; none for what it has not."""
    if module in _BESIDE:
        return (_BESIDE[module],)
    found = _LAYER.fullmatch(module)
    return tuple(f"model.layers.{found[1]}.{part}" for part in _IN_LAYER.get(found[2], ())) if found else ()


def shapes(layers: int, width: int, inner: int, words: int) -> dict[str, tuple[int, ...]]:
    """Name and shape of each tensor of a first Qwen. inner: rows of w1, which is half of its intermediate_size."""
    found: dict[str, tuple[int, ...]] = {
        "transformer.wte.weight": (words, width),
        "transformer.ln_f.weight": (width,),
        "lm_head.weight": (words, width),
    }
    for layer in range(layers):
        own = {
            "ln_1.weight": (width,),
            "ln_2.weight": (width,),
            f"{FUSED}.weight": (3 * width, width),
            f"{FUSED}.bias": (3 * width,),
            "attn.c_proj.weight": (width, width),
            "mlp.w1.weight": (inner, width),
            "mlp.w2.weight": (inner, width),
            "mlp.c_proj.weight": (width, inner),
        }
        found |= {f"transformer.h.{layer}.{name}": shape for name, shape in own.items()}
    return found
