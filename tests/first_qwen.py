"""The first Qwen, made tiny: a plain computation of its logits, and its files as they are published.

Checkpoints of random numbers with the names of `QWenLMHeadModel`, a `qwen.tiktoken` trained on a few lines of text, and
pickled LoRA adapters. The computation follows the first Qwen's own code, also beyond the length that it was trained on.
"""

from __future__ import annotations

import base64
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import regex
import torch
from safetensors.torch import save_file

Tensors = dict[str, torch.Tensor]

# How the first Qwen's own code cuts a text into words.
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SEQ_LENGTH = 48
CONFIG: dict[str, Any] = {
    "architectures": ["QWenLMHeadModel"],
    "attn_dropout_prob": 0.0,
    "auto_map": {
        "AutoConfig": "configuration_qwen.QWenConfig",
        "AutoModelForCausalLM": "modeling_qwen.QWenLMHeadModel",
    },
    "bf16": False,
    "emb_dropout_prob": 0.0,
    "fp16": False,
    "fp32": False,
    "hidden_size": 32,
    "initializer_range": 0.02,
    "intermediate_size": 48,
    "kv_channels": 8,
    "layer_norm_epsilon": 1e-5,
    "max_position_embeddings": 4 * SEQ_LENGTH,
    "model_type": "qwen",
    "no_bias": True,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "onnx_safe": None,
    "rotary_emb_base": 5000,
    "rotary_pct": 1.0,
    "scale_attn_weights": True,
    "seq_length": SEQ_LENGTH,
    "tie_word_embeddings": False,
    "tokenizer_class": "QWenTokenizer",
    "transformers_version": "4.31.0",
    "use_cache": True,
    "use_dynamic_ntk": True,
    "use_flash_attn": "auto",
    "use_logn_attn": True,
    "vocab_size": 640,
}
TEXT = """The dog saw a bird, and the cat didn't. Question: who saw it? A. the dog B. the cat C. nobody Answer: A
Passage: people say that they're tall; we've known it's wrong. I'll wait, he'd go, I'm here (2024, 15:30).
Article: a storm came over the town; 1234 houses lost their roofs.\n\nSummarize the above article in 3 sentences.
今天天气很好。 Ünïcödé naïve café — “quotes” … 안녕하세요 привет мир 😀😃\tdef main():\r\n    return x == y
"""


def random_tensors(config: Mapping[str, Any], seed: int = 0, size: float = 0.3) -> Tensors:
    """Tensors of a first Qwen of a configuration."""
    draw = torch.Generator().manual_seed(seed)
    width, inner, words = config["hidden_size"], config["intermediate_size"] // 2, config["vocab_size"]

    def matrix(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw) * size

    def norm() -> torch.Tensor:
        return 1 + 0.2 * torch.randn(width, generator=draw)

    found = {"transformer.wte.weight": matrix(words, width), "transformer.ln_f.weight": norm()}
    for layer in range(config["num_hidden_layers"]):
        at = f"transformer.h.{layer}"
        found |= {
            f"{at}.ln_1.weight": norm(),
            f"{at}.attn.c_attn.weight": matrix(3 * width, width),
            f"{at}.attn.c_attn.bias": matrix(3 * width),
            f"{at}.attn.c_proj.weight": matrix(width, width),
            f"{at}.ln_2.weight": norm(),
            f"{at}.mlp.w1.weight": matrix(inner, width),
            f"{at}.mlp.w2.weight": matrix(inner, width),
            f"{at}.mlp.c_proj.weight": matrix(width, inner),
        }
    return {**found, "lm_head.weight": matrix(words, width)}


def logits(config: Mapping[str, Any], tensors: Tensors, ids: torch.Tensor) -> torch.Tensor:
    """Logits (batch, length, words) of token ids (batch, length)."""
    heads, width = config["num_attention_heads"], config["hidden_size"]
    size, length = width // heads, ids.shape[1]
    cosine, sine = _rotation(config, size, length)
    scale = torch.ones(length)
    if config["use_logn_attn"] and length > config["seq_length"]:
        scale = torch.tensor([max(1.0, math.log(at, config["seq_length"])) for at in range(1, length + 1)])
    mask = torch.ones(length, length).tril().bool()

    def turned(x: torch.Tensor) -> torch.Tensor:
        half = torch.cat([-x[..., size // 2 :], x[..., : size // 2]], dim=-1)
        return x * cosine + half * sine

    def normed(x: torch.Tensor, name: str) -> torch.Tensor:
        mean = x.pow(2).mean(-1, keepdim=True)
        return x * torch.rsqrt(mean + config["layer_norm_epsilon"]) * tensors[name]

    x = tensors["transformer.wte.weight"][ids]
    for layer in range(config["num_hidden_layers"]):
        at = f"transformer.h.{layer}"
        mixed = normed(x, f"{at}.ln_1.weight") @ tensors[f"{at}.attn.c_attn.weight"].T
        mixed = mixed + tensors[f"{at}.attn.c_attn.bias"]
        parts = (part.unflatten(-1, (heads, size)).transpose(1, 2) for part in mixed.split(width, dim=-1))
        query, key, value = parts
        query, key = turned(query) * scale[:, None], turned(key)
        weights = (query @ key.transpose(-1, -2) / math.sqrt(size)).masked_fill(~mask, -math.inf).softmax(-1)
        attended = (weights @ value).transpose(1, 2).flatten(2)
        x = x + attended @ tensors[f"{at}.attn.c_proj.weight"].T
        inner = normed(x, f"{at}.ln_2.weight")
        first, second = (inner @ tensors[f"{at}.mlp.{name}.weight"].T for name in ("w1", "w2"))
        x = x + (first * torch.nn.functional.silu(second)) @ tensors[f"{at}.mlp.c_proj.weight"].T
    return normed(x, "transformer.ln_f.weight") @ tensors["lm_head.weight"].T


def _rotation(config: Mapping[str, Any], size: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosine and sine (length, size); beyond the trained length the base grows ("dynamic NTK")."""
    alpha = 1.0
    if config["use_dynamic_ntk"]:
        alpha = max(1.0, 2 ** math.ceil(math.log2(length / config["seq_length"]) + 1) - 1)
    base = config["rotary_emb_base"] * alpha ** (size / (size - 2))
    frequencies = 1 / base ** (torch.arange(0, size, 2).float() / size)
    angles = torch.outer(torch.arange(length).float(), frequencies)
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


# -- LoRA


def random_adapter(
    config: Mapping[str, Any], modules: Iterable[str], rank: int = 3, seed: int = 1, size: float = 0.3
) -> Tensors:
    """Factors of the layers' modules of these names, such as `attn.c_attn`, or of `lm_head`, as PEFT calls them."""
    draw = torch.Generator().manual_seed(seed)
    shapes = {name: tensor.shape for name, tensor in random_tensors(config).items()}
    found = {}
    for name in modules:
        layers = [f"transformer.h.{layer}.{name}" for layer in range(config["num_hidden_layers"])]
        for module in layers if "." in name else [name]:
            m, n = shapes[f"{module}.weight"]
            stem = f"base_model.model.{module}"
            found[f"{stem}.lora_A.weight"] = torch.randn(rank, n, generator=draw) * size
            found[f"{stem}.lora_B.weight"] = torch.randn(m, rank, generator=draw) * size
    return found


def merged(tensors: Tensors, adapter: Tensors, scale: float) -> Tensors:
    """The tensors of a model with an adapter's changes added."""
    found = dict(tensors)
    for name, down in adapter.items():
        if name.endswith(".lora_A.weight"):
            module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            up = adapter[name.replace("lora_A", "lora_B")]
            found[f"{module}.weight"] = found[f"{module}.weight"] + scale * up @ down
    return found


# -- files


def write_model(folder: Path, config: Mapping[str, Any], tensors: Tensors, form: str = "safetensors") -> Path:
    """Write a checkpoint as one file, as shards, or pickled; and its tokenizer's ranks."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    if form == "pickled":
        torch.save(tensors, folder / "pytorch_model.bin")
    elif form == "safetensors":
        save_file({name: tensor.clone() for name, tensor in tensors.items()}, folder / "model.safetensors")
    else:
        names = list(tensors)
        places: dict[str, str] = {}
        for number in range(3):
            file = f"model-0000{number + 1}-of-00003.safetensors"
            save_file({name: tensors[name].clone() for name in names[number::3]}, folder / file)
            places |= dict.fromkeys(names[number::3], file)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    write_ranks(folder / "qwen.tiktoken", trained_ranks(TEXT, 400))
    (folder / "tokenizer_config.json").write_text(
        '{"model_max_length": 8192, "tokenizer_class": "QWenTokenizer", '
        '"auto_map": {"AutoTokenizer": ["tokenization_qwen.QWenTokenizer", null]}}'
    )
    generation = {"chat_format": "raw", "do_sample": True, "top_p": 0.8, "eos_token_id": 400, "pad_token_id": 400}
    (folder / "generation_config.json").write_text(json.dumps(generation))
    return folder


def write_adapter(folder: Path, tensors: Tensors, pickled: bool = True, **settings: Any) -> Path:
    """Write an adapter as PEFT before 0.7 did."""
    folder.mkdir(parents=True, exist_ok=True)
    said = {
        "auto_mapping": None,
        "base_model_name_or_path": "Qwen/Qwen-14B",
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "layers_pattern": None,
        "layers_to_transform": None,
        "lora_alpha": 6,
        "lora_dropout": 0.05,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": 3,
        "revision": None,
        "target_modules": ["c_attn", "c_proj", "w1", "w2"],
        "task_type": "CAUSAL_LM",
        **settings,
    }
    (folder / "adapter_config.json").write_text(json.dumps(said, indent=2))
    if pickled:
        torch.save(tensors, folder / "adapter_model.bin")
    else:
        save_file({name: tensor.clone() for name, tensor in tensors.items()}, folder / "adapter_model.safetensors")
    return folder


def trained_ranks(text: str, count: int) -> dict[bytes, int]:
    """Byte pair encoding of a text's words: the 256 bytes, and so many tokens in all."""
    ranks = {bytes([value]): value for value in range(256)}
    words = [[bytes([value]) for value in word.encode()] for word in regex.findall(PATTERN, text)]
    while len(ranks) < count:
        pairs = Counter(pair for word in words for pair in pairwise(word))
        (one, two), _ = max(pairs.items(), key=lambda item: (item[1], item[0]))
        ranks.setdefault(one + two, len(ranks))
        for word in words:
            at = 0
            while at + 1 < len(word):
                if word[at] == one and word[at + 1] == two:
                    word[at : at + 2] = [one + two]
                at += 1
    return ranks


def write_ranks(file: Path, ranks: Mapping[bytes, int]) -> Path:
    lines = [f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks.items()]
    file.write_text("".join(lines))
    return file
