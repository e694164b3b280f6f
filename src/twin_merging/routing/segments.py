"""The two texts of a pair apart: the means over the tokens of each, how they differ, and how long they are.

A model is given token ids and no texts. So the texts are told apart by the ids: the first ends at the first separator
(`[SEP]`, `</s>`), and the second is all that follows it. Separators, padding and the token at the beginning or the end
belong to neither. A text alone has no second one, whose mean and length are 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from twin_merging.errors import UserError

MARKS = "marks"  # the tensor of a file of features that holds them


def marks_of(tokenizer: Any) -> torch.Tensor:
    """Ids (n,) of the tokens that belong to no text, the separator first. Raises UserError where a tokenizer puts none
    between two texts."""
    separator = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
    if separator is None or separator not in tokenizer("a", "a")["input_ids"][1:-1]:
        raise UserError(
            f"{tokenizer.name_or_path}: its tokenizer puts no separator between two texts, so none is kept apart; "
            "leave segments out of router.features"
        )
    others = (tokenizer.cls_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    return torch.tensor([separator, *sorted({one for one in others if one is not None} - {separator})])


def masks(input_ids: torch.Tensor, attention_mask: torch.Tensor, marks: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Masks (batch, length) of the first and of the second text's tokens. marks: as `marks_of` gives them."""
    ends = (input_ids == marks[0]) & attention_mask.bool()
    ended = ends.cumsum(1) > 0
    words = attention_mask.bool() & ~torch.isin(input_ids, marks)
    return words & ~ended, words & ended


def apart(hidden: Sequence[torch.Tensor], both: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """The features (batch, 4 d n + 2), fp32, of n hidden states (batch, length, d), with the masks of both texts.

    For each state: the means A and B of the two texts, |A - B| and A * B. And log(1 + tokens) of each text.
    """
    parts = []
    for state in hidden:
        A, B = (_mean(state.float(), mask) for mask in both)
        parts += [A, B, (A - B).abs(), A * B]
    lengths = [mask.sum(1, keepdim=True).float().log1p() for mask in both]
    return torch.cat([*parts, *lengths], dim=-1)


def _mean(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean (batch, d) over the tokens of a mask; 0 where there are none."""
    weights = mask[..., None].to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)
