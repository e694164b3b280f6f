"""Makes the base of the embedded suite of language models: a tokenizer, and a small Llama that is pretrained on
generated text."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin_merging.synthetic.generative.corpus import corpus, vocabulary
from twin_merging.synthetic.generative.tokenizer import BEGIN, END, PAD, line_tokenizer
from twin_merging.synthetic.pretraining import Optimiser, Settings, lines_in_batches, padded

if TYPE_CHECKING:
    from transformers import LlamaConfig, LlamaForCausalLM

logger = logging.getLogger(__name__)

_FIRST_PART = 0.2  # weight of a token's loss in the first part of a line, which nothing before it foretells
_REPORT = 200  # steps


@dataclass(frozen=True)
class _Line:
    """The ids of a line, with <s> and </s>, and the weight of each one's loss."""

    ids: list[int]
    weights: list[float]


def generate_base(
    directory: Path,
    *,
    seed: int,
    sentences: int,
    steps: int,
    batch_size: int,
    learning_rate: float,
    hidden_size: int,
    layers: int,
    heads: int,
    max_length: int,
    progress: Callable[[int], object] = lambda step: None,
) -> None:
    """Pretrain a Llama, and write it and its tokenizer into `directory`.

    The model learns to foretell every next token of `sentences` lines of `corpus`, in `steps` batches. Its output layer
    is its table of embeddings.

    `max_length` counts the special tokens too. After each batch, `progress` is called with the number of batches that
    are done. The same arguments give the same bytes on the same machine.
    """
    from transformers import set_seed

    tokenizer = line_tokenizer(vocabulary(), max_length)
    lines = _lines(corpus(sentences, seed), tokenizer, max_length)
    set_seed(seed)
    config = _config(len(tokenizer), hidden_size, layers, heads, max_length)
    model = _pretrain(config, lines, Settings(seed, steps, batch_size, learning_rate), progress)
    directory.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def _lines(corpus: Sequence[tuple[str, str]], tokenizer: Any, max_length: int) -> list[_Line]:
    """Lines of two parts as the model learns from them, each cut to max_length."""
    firsts = tokenizer([first for first, _ in corpus])["input_ids"]
    seconds = tokenizer([second for _, second in corpus], add_special_tokens=False)["input_ids"]
    found = []
    for first, second in zip(firsts, seconds, strict=True):
        weights = [_FIRST_PART] * len(first) + [1.0] * (len(second) + 1)
        found.append(_Line([*first, *second, END][:max_length], weights[:max_length]))
    return found


def _config(vocabulary_size: int, hidden_size: int, layers: int, heads: int, max_length: int) -> LlamaConfig:
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=vocabulary_size,
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=max_length,
        initializer_range=0.05,
        tie_word_embeddings=True,
        bos_token_id=BEGIN,
        pad_token_id=PAD,
        eos_token_id=END,
    )


def _pretrain(
    config: LlamaConfig, lines: list[_Line], settings: Settings, progress: Callable[[int], object]
) -> LlamaForCausalLM:
    """Train the model to foretell the next token. The optimiser is AdamW with warm-up and linear decay."""
    import torch
    from torch.nn.functional import cross_entropy
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM(config).train()
    optimiser = Optimiser(list(model.parameters()), settings)
    generator = torch.Generator().manual_seed(settings.seed)
    batches = lines_in_batches([len(line.ids) for line in lines], settings.batch_size, generator)
    total = 0.0
    for step in range(1, settings.steps + 1):
        batch = [lines[number] for number in next(batches)]
        ids = padded([line.ids for line in batch], PAD)
        weights = padded([line.weights for line in batch], 0.0)[:, 1:]
        logits = model(input_ids=ids, attention_mask=(ids != PAD).long(), use_cache=False).logits[:, :-1]
        losses = cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        loss = (losses * weights).sum() / weights.sum()
        optimiser.step(loss)
        progress(step)
        total += float(loss.detach())
        if step % _REPORT == 0:
            logger.info("step %d: loss %.3f", step, total / _REPORT)
            total = 0.0
    return model
