"""Makes the base of the embedded suite: a word tokenizer, and a small RoBERTa that is pretrained on generated text."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from twin_merging.synthetic.corpus import corpus, vocabulary
from twin_merging.synthetic.pretraining import Optimiser, Settings, lines_in_batches, padded
from twin_merging.synthetic.words import kinds

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForMaskedLM

logger = logging.getLogger(__name__)

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
PAD, MASK = 1, 4
_MASKED = 0.2  # of the words
_REPLACED = 0.15  # of the words in every other line
_TOKEN_WEIGHT, _LINE_WEIGHT = 3.0, 1.0  # of the losses for words and lines; the loss for masked words has weight 1
_REPORT = 200  # steps
_SHARP = 1.5  # the initial queries are multiplied by this


@dataclass(frozen=True)
class _Noisy:
    """A disturbed batch: its token ids; which of them are masked; the masked words; which words were replaced."""

    inputs: torch.Tensor
    masked: torch.Tensor
    targets: torch.Tensor
    foreign: torch.Tensor


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
    """Pretrain a RoBERTa, and write its body (without pooler and head) and its tokenizer into `directory`.

    The model learns from `sentences` lines of `corpus`, in `steps` batches. It has three losses: to guess masked words;
    to find words that were replaced by others of their kind; and to say, at the first token, whether a line holds a
    replaced word. The heads for these losses are not kept.

    What this means for the tasks: the base has seen their kind of sentences, in pairs if the task has pairs, and has
    learnt that the two of a pair belong together. The labels decided which lines it saw, but no label was shown. It saw
    sentences that do not belong together only as lines with replaced words.

    `max_length` counts the special tokens too. After each batch, `progress` is called with the number of batches that
    are done. The same arguments give the same bytes on the same machine.
    """
    from transformers import set_seed

    tokenizer = word_tokenizer(max_length)
    config = _config(len(tokenizer), hidden_size, layers, heads, max_length)
    lines = tokenizer(corpus(sentences, seed), truncation=True, max_length=max_length)["input_ids"]
    set_seed(seed)
    stand_ins = stand_in_table(tokenizer.get_vocab())
    model = _pretrain(config, lines, stand_ins, Settings(seed, steps, batch_size, learning_rate), progress)
    directory.mkdir(parents=True, exist_ok=True)
    body = model.roberta
    body.config.architectures = ["RobertaModel"]
    body.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def word_tokenizer(max_length: int) -> PreTrainedTokenizerFast:
    """A tokenizer with one token for each word or mark. It frames a pair as RoBERTa does: <s> a </s></s> b </s>."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    ids = {token: number for number, token in enumerate((*SPECIAL, *vocabulary()))}
    words = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s>:0 $B:0 </s>:0",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        model_max_length=max_length,
        model_input_names=["input_ids", "attention_mask"],
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
    )


def _config(vocabulary_size: int, hidden_size: int, layers: int, heads: int, max_length: int) -> RobertaConfig:
    from transformers import RobertaConfig

    return RobertaConfig(
        vocab_size=vocabulary_size,
        hidden_size=hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=2 * hidden_size,
        max_position_embeddings=max_length + PAD + 1,
        type_vocab_size=1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.05,
        bos_token_id=0,
        pad_token_id=PAD,
        eos_token_id=2,
    )


def _pretrain(
    config: RobertaConfig,
    lines: list[list[int]],
    stand_ins: torch.Tensor,
    settings: Settings,
    progress: Callable[[int], object],
) -> RobertaForMaskedLM:
    """Train the model to guess masked words, as BERT does, and to find replaced words, as ELECTRA does.

    A third loss is for telling whether a line holds a replaced word. The optimiser is AdamW with warm-up and linear
    decay. The heads for replaced words and for lines are dropped afterwards.
    """
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
    from transformers import RobertaForMaskedLM

    model = RobertaForMaskedLM(config)
    _let_like_attend_to_like(model)
    detector = torch.nn.Linear(config.hidden_size, 2)
    model.train()
    optimiser = Optimiser([*model.parameters(), *detector.parameters()], settings)
    generator = torch.Generator().manual_seed(settings.seed)
    batches = lines_in_batches(list(map(len, lines)), settings.batch_size, generator)
    totals = torch.zeros(3)
    for step in range(1, settings.steps + 1):
        noisy = disturb(padded([lines[i] for i in next(batches)], PAD), stand_ins, generator)
        hidden = model.roberta(noisy.inputs, attention_mask=(noisy.inputs != PAD).long()).last_hidden_state
        foreign = detector(hidden)
        shown = noisy.inputs > MASK
        word_loss = cross_entropy(model.lm_head(hidden[noisy.masked]), noisy.targets)
        token_loss = binary_cross_entropy_with_logits(foreign[..., 0][shown], noisy.foreign[shown].float())
        line_loss = binary_cross_entropy_with_logits(foreign[:, 0, 1], noisy.foreign.any(1).float())
        loss = word_loss + _TOKEN_WEIGHT * token_loss + _LINE_WEIGHT * line_loss
        optimiser.step(loss)
        progress(step)
        totals += torch.stack((word_loss, token_loss, line_loss)).detach()
        if step % _REPORT == 0:
            means = (totals / _REPORT).tolist()
            logger.info("step %d: loss %.3f for masked words, %.3f for foreign words, %.3f for lines", step, *means)
            totals.zero_()
    return model


def _let_like_attend_to_like(model: RobertaForMaskedLM) -> None:
    """Start with every layer's keys equal to its queries, so that a word attends to the same word in the other text.

    Training would find this by itself, but slowly.
    """
    import torch

    with torch.no_grad():
        for layer in model.roberta.encoder.layer:
            attention = layer.attention.self
            attention.query.weight.mul_(_SHARP)
            attention.key.weight.copy_(attention.query.weight)


def stand_in_table(ids: dict[str, int]) -> torch.Tensor:
    """A table whose row i lists the words that may replace word i: those of its kind.

    The list is repeated until the row is full. A word without a kind has only itself in its row.
    """
    import torch

    width = max(map(len, kinds()))
    table = torch.arange(len(ids)).unsqueeze(1).repeat(1, width)
    for kind in kinds():
        members = [ids[word] for word in kind if word in ids]
        for member in members:
            table[member] = torch.tensor((members * width)[:width])
    return table


def disturb(batch: torch.Tensor, stand_ins: torch.Tensor, generator: torch.Generator) -> _Noisy:
    """Replace words by others of their kind in every second line, and mask words in all lines.

    If the same line has another word of the kind, half of the replacements are taken from there. This looks as if two
    roles were exchanged.
    """
    import torch

    words = batch > MASK
    uniform = torch.rand((5, *batch.shape), generator=generator)
    picks = torch.randint(stand_ins.shape[1], batch.shape, generator=generator)
    kinds_of = stand_ins.amin(1)[batch]
    rivals = (kinds_of[:, :, None] == kinds_of[:, None, :]) & (batch[:, :, None] != batch[:, None, :])
    nearest = torch.gather(batch, 1, (rivals * uniform[3].unsqueeze(1)).argmax(2))
    confused = rivals.any(2) & (uniform[1] < 0.5)
    replaced = words & (uniform[0] < _REPLACED) & (uniform[2, :, :1] < 0.5)
    inputs = torch.where(replaced, torch.where(confused, nearest, stand_ins[batch, picks]), batch)
    masked = words & ~replaced & (uniform[4] < _MASKED)
    if not masked.any():
        masked = words
    return _Noisy(torch.where(masked, MASK, inputs), masked, batch[masked], (inputs != batch) & ~masked)
