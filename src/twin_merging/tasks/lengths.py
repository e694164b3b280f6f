"""How long an input may be: one rule for features, training, statistics and answers.

The least of what is asked for, of the positions that the model has, and of the tokenizer's own limit. What is longer is
cut and counted where a label is asked for (`tokenised`), and is an error where text is written.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import Any

from twin_merging.checkpoints.architectures import body_on_meta
from twin_merging.errors import UserError
from twin_merging.tasks.task import Encoded, Longest

log = logging.getLogger(__name__)

ASKED = "inference.max_length"
SPARE = 8  # rows that a table of positions may have more than the configuration says: OPT's has two


def longest(asked: int | None, config: Any, tokenizer: Any, *, key: str = ASKED, new: int = 0) -> Longest:
    """How long an input of a model of `config` may be.

    asked: what the key `key` says, if anything does; new: tokens that the model writes behind the input, which need
    positions too: where positions are computed, beyond those that the configuration names the model answers, but as
    nobody trained or published it (the first Qwen scales them there).
    """
    from transformers.tokenization_utils_base import LARGE_INTEGER

    limits = [] if asked is None else [Longest(asked, f"{key} is {asked}", "raise it, or shorten the input")]
    count = positions(config)
    if count is not None:
        written = f", of which it may write {new}" if new else ""
        limits.append(Longest(count - new, f"the model has {count} positions{written}"))
    if 0 < tokenizer.model_max_length < LARGE_INTEGER:  # a tokenizer without a limit names a larger number
        limit = int(tokenizer.model_max_length)
        limits.append(Longest(limit, f"the tokenizer's model_max_length is {limit}"))
    return min(limits, key=lambda limit: limit.tokens, default=Longest(LARGE_INTEGER, "nothing limits it"))


def positions(config: Any) -> int | None:
    """How many positions a model has, by its configuration and by its table of them; None where nothing says it."""
    return min((one for one in (_told(config), table_positions(config)) if one is not None), default=None)


def table_positions(config: Any) -> int | None:
    """How many positions the architecture has a table of, learned or not; None where it computes them.

    A table with a padding index begins to count behind it, as RoBERTa's does: of 514 rows it uses 512.
    """
    told = _told(config)
    if told is None:
        return None
    body: Any = body_on_meta(config)
    words = _word_embeddings(body)
    tables = [part for part in body.modules() if _is_embedding(part) and id(part) not in words]
    found = [(int(part.weight.shape[0]), 0 if part.padding_idx is None else part.padding_idx + 1) for part in tables]
    found += [(one.shape[0], 0) for one in body.buffers() if one.is_floating_point() and one.dim() == 2]
    return min((min(told, rows - first) for rows, first in found if told <= rows <= told + SPARE), default=None)


def tokenised(tokenizer: Any, columns: Sequence[Sequence[str]], limit: Longest) -> list[Encoded]:
    """One text or pair a row, each cut to the limit; those that were cut are marked."""
    least = tokenizer.num_special_tokens_to_add(pair=len(columns) > 1)
    if limit.tokens <= least:
        raise UserError(f"an input has room for no text: {limit.why}, of which {least} are special; {limit.remedy}")
    rows = _rows(tokenizer(*map(list, columns), truncation=False, verbose=False))
    long = [row for row, example in enumerate(rows) if len(example) > limit.tokens]
    if long:
        parts = [[column[row] for row in long] for column in columns]
        shorter = _rows(tokenizer(*parts, truncation=True, max_length=limit.tokens), is_cut=True)
        for row, example in zip(long, shorter, strict=True):
            rows[row] = example
    return rows


def encoded_text(tokenizer: Any, texts: Sequence[str], limit: Longest, what: str, whole: bool) -> Encoded:
    """One text, or a pair, cut to the limit; one that has to stay whole is an error that names it as `what`."""
    if not whole:
        return tokenised(tokenizer, [[text] for text in texts], limit)[0]
    encoded = tokenizer(*texts, truncation=False, verbose=False)
    example = Encoded(dict(encoded))
    check_length(example, limit, what)
    return example


def warn_of_cut(task: str, examples: Collection[Encoded], limit: Longest) -> None:
    """Say once how many rows of a task were cut, and how many prompts lost in-context examples."""
    count = sum(example.is_cut for example in examples)
    if count:
        log.warning(
            "task %s: %d of %d rows are longer than %d tokens and were cut: %s",
            task, count, len(examples), limit.tokens, limit.why,
        )  # fmt: skip
    lost = [example.lost_examples for example in examples if example.lost_examples]
    if lost:
        log.warning(
            "task %s: %d of %d prompts do not fit %d tokens with all in-context examples and lost 1 to %d of them: %s",
            task, len(lost), len(examples), limit.tokens, max(lost), limit.why,
        )  # fmt: skip


def check_length(example: Encoded, limit: Longest, what: str) -> None:
    """Raise UserError for an input that is too long, with what may stand behind it, and must not be cut. `what` names
    it."""
    if (tokens := example.whole_length) > limit.tokens:
        raise UserError(f"{what} has {tokens} tokens, but {limit.why}; {limit.remedy}, or leave it out")


def _rows(encoded: Any, is_cut: bool = False) -> list[Encoded]:
    count = len(encoded["input_ids"])
    return [Encoded({key: encoded[key][row] for key in encoded}, is_cut) for row in range(count)]


def _told(config: Any) -> int | None:
    """The positions that a configuration names; XLNet's -1 is none."""
    told = getattr(config.get_text_config(), "max_position_embeddings", None)
    return told if isinstance(told, int) and told > 0 else None


def _is_embedding(part: Any) -> bool:
    """Whether a module is a table of embeddings, of torch's class or one of its own (I-BERT's)."""
    return hasattr(part, "padding_idx") and hasattr(part, "weight") and part.weight.dim() == 2


def _word_embeddings(body: Any) -> set[int]:
    """The modules of a body, and of the models within it, that embed words."""
    from transformers import PreTrainedModel

    found = set()
    for part in body.modules():
        if isinstance(part, PreTrainedModel):
            try:
                found.add(id(part.get_input_embeddings()))
            except (NotImplementedError, AttributeError):
                continue
    return found
