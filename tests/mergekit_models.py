"""Tiny language models of eight layers, written without transformers, and the tensors that they hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

Tensors = dict[str, torch.Tensor]
NAMES = ("base", "chat", "code", "math")
HIDDEN, WORDS, INNER = 8, 30, 12


def shapes(layers: int, words: int = WORDS) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (words, HIDDEN)}
    for layer in range(layers):
        stem = f"model.layers.{layer}."
        for part in "qkvo":
            found[f"{stem}self_attn.{part}_proj.weight"] = (HIDDEN, HIDDEN)
        found[f"{stem}mlp.gate_proj.weight"] = found[f"{stem}mlp.up_proj.weight"] = (INNER, HIDDEN)
        found[f"{stem}mlp.down_proj.weight"] = (HIDDEN, INNER)
        found[f"{stem}input_layernorm.weight"] = found[f"{stem}post_attention_layernorm.weight"] = (HIDDEN,)
    return {**found, "model.norm.weight": (HIDDEN,), "lm_head.weight": (words, HIDDEN)}


def write_model(
    folder: Path, tensors: Tensors, layers: int = 8, words: dict[str, int] | None = None, **config: Any
) -> Path:
    """A Llama model's folder, with a tokenizer of `words`."""
    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    content = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "vocab_size": WORDS,
        "intermediate_size": INNER, "num_hidden_layers": layers, "num_attention_heads": 2, "num_key_value_heads": 2,
        "tie_word_embeddings": False, "torch_dtype": "float32", **config,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(content))
    vocabulary = words or {f"w{number}": number for number in range(WORDS)}
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"type": "WordLevel", "vocab": vocabulary}}))
    return folder


def write_models(root: Path, layers: int = 8) -> dict[str, Tensors]:
    """Write `base`, `chat`, `code` and `math` below a folder, and give their tensors."""
    generator = torch.Generator().manual_seed(7)
    base = {name: torch.randn(shape, generator=generator) for name, shape in shapes(layers).items()}
    found = {"base": base}
    for number, name in enumerate(NAMES[1:], start=1):
        noise = {tensor: torch.randn(value.shape, generator=generator) for tensor, value in base.items()}
        found[name] = {tensor: base[tensor] + 0.1 * number * noise[tensor] for tensor in base}
    for name, tensors in found.items():
        write_model(root / name, tensors, layers)
    return found
