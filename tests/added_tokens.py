"""Experts of one tiny base, with tokens of their own: whole models and LoRA adapters, made on the fly."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, TaskType, get_peft_model

from tests.tiny import config_of, perturbed
from tests.tiny_decoders import language_model, tokenizer

SHARED, CHAT, TOOL = "<|im_end|>", "<|im_start|>", "<tool>"
TOKENS = {"chat": (CHAT, SHARED), "tool": (TOOL, SHARED)}  # both call their first one 45
TEMPLATE = "{% for message in messages %}{{ message['content'] }} {% endfor %}"


def with_tokens(tokens: Sequence[str], special: bool = True) -> Any:
    own = tokenizer()
    own.add_tokens([transformers.AddedToken(token, special=special, normalized=False) for token in tokens])
    return own


def write_base(folder: Path, tied: bool = True, rows: int = 0, shard: str = "1GB") -> Any:
    """A base, of which nothing is padding, or with so many rows of tokens; in shards of a size."""
    base = perturbed(language_model("llama", tied, 0), 9, 0.5)
    if rows:
        _resized(base, rows)
    own = tokenizer()
    own.chat_template = TEMPLATE
    base.save_pretrained(folder, max_shard_size=shard)
    own.save_pretrained(folder)
    return base


def write_expert(folder: Path, base: Any, tokens: Sequence[str], seed: int, multiple: int | None = None) -> Any:
    """A fine-tune of all parameters, whose rows of tokens are a multiple of a number."""
    model, own = copy.deepcopy(base), with_tokens(tokens, special=seed % 2 == 1)
    size = max(len(own), model.config.vocab_size)
    _resized(model, size, multiple)
    model = perturbed(model, seed, 0.1)
    for part in (model, own):
        part.save_pretrained(folder)
    return model


def write_adapter(folder: Path, base: Any, tokens: Sequence[str], saved: Sequence[str], **settings: Any) -> Any:
    """A LoRA adapter whose tables of tokens, `saved`, were trained whole. Gives the model."""
    model, own = copy.deepcopy(base), with_tokens(tokens)
    if saved:
        _resized(model, len(own))
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM, r=2, lora_alpha=4, modules_to_save=list(saved) or None,
        **{"target_modules": ["q_proj", "down_proj"], **settings},
    )  # fmt: skip
    adapted: Any = get_peft_model(model, config)
    with torch.no_grad():
        for number, (name, value) in enumerate(adapted.named_parameters()):
            if "lora_" in name or ".modules_to_save." in name:
                value.add_(torch.randn(value.shape, generator=torch.Generator().manual_seed(number)), alpha=0.3)
    adapted.save_pretrained(folder)
    own.save_pretrained(folder)
    return adapted


def _resized(model: Any, rows: int, multiple: int | None = None) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(rows)
        model.resize_token_embeddings(rows, pad_to_multiple_of=multiple, mean_resizing=False)


def row(model: Any, folder: Path, token: str, output: bool = False) -> torch.Tensor:
    """A token's row in a model whose tokenizer is in a folder."""
    number = transformers.AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids(token)
    layer = model.get_output_embeddings() if output else model.get_input_embeddings()
    return layer.weight[number].detach()


def write_classifiers(folder: Path) -> tuple[Path, dict[str, Path], dict[str, Any]]:
    """An encoder, and two classifiers of which each has a token of its own."""
    config = config_of("roberta")
    torch.manual_seed(0)
    base: Any = transformers.AutoModel.from_config(config, add_pooling_layer=False)
    base.save_pretrained(folder / "base")
    tokenizer().save_pretrained(folder / "base")
    models: dict[str, Any] = {}
    for seed, (name, tokens) in enumerate({"law": ("<law>",), "news": ("<news>",)}.items(), start=1):
        config = copy.deepcopy(base.config)
        config.num_labels = seed + 1
        model: Any = transformers.AutoModelForSequenceClassification.from_config(config)
        model.roberta.load_state_dict(base.state_dict())
        own = with_tokens(tokens)
        _resized(model, len(own))
        models[name] = perturbed(model, seed, 0.1).eval()
        for part in (model, own):
            part.save_pretrained(folder / name)
    return folder / "base", {name: folder / name for name in models}, models
