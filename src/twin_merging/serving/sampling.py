"""The next token of each row, and what the model says of tokens."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch

from twin_merging.serving.rows import Ask

COLDEST = 1e-5  # a temperature below this takes the likeliest token

Likely = tuple[float, tuple[tuple[int, float], ...]]  # log p of a token, and the likeliest in its place with theirs


def choose(logits: torch.Tensor, asks: Sequence[Ask], randoms: Sequence[random.Random]) -> list[int]:
    """A token for each row of logits (rows, vocabulary), fp32. Each row draws one number of its own, so that what is in
    the batch beside it changes nothing."""
    chosen = logits.argmax(-1)
    warm = [row for row, ask in enumerate(asks) if ask.temperature >= COLDEST]
    if warm:
        chosen[warm] = _sampled(logits[warm], [asks[row] for row in warm], [randoms[row].random() for row in warm])
    return [int(token) for token in chosen.tolist()]


def _sampled(logits: torch.Tensor, asks: Sequence[Ask], drawn: Sequence[float]) -> torch.Tensor:
    """Nucleus sampling (Holtzman et al. 2020, arXiv 1904.09751): of the tokens in order of their probability p, those
    before which less than top_p lies; one of these, where its share of their sum covers the number that was drawn."""
    like: Any = {"dtype": torch.float64, "device": logits.device}
    temperature = torch.tensor([ask.temperature for ask in asks], **like)[:, None]
    top_p = torch.tensor([ask.top_p for ask in asks], **like)[:, None]
    scaled = (logits - logits.amax(-1, keepdim=True)).double() / temperature
    p, order = scaled.softmax(-1).sort(descending=True, stable=True)
    before = p.cumsum(-1) - p
    p = torch.where(before < top_p, p, 0.0)
    p[:, 0] = torch.where(p.sum(-1) > 0, p[:, 0], 1.0)
    sums = p.cumsum(-1)
    wanted = torch.tensor(drawn, **like)[:, None] * sums[:, -1:]
    place = torch.searchsorted(sums, wanted, right=True).clamp(max=p.shape[-1] - 1)
    last = (p > 0).sum(-1, keepdim=True) - 1
    return order.gather(-1, torch.minimum(place, last))[:, 0]


def likelihoods(logits: torch.Tensor, tokens: Sequence[int], count: int) -> list[Likely]:
    """Of each row of logits (rows, vocabulary), log p of a token, and the `count` likeliest tokens with theirs."""
    logs = logits.float().log_softmax(-1)
    own = logs.gather(-1, torch.tensor(tokens, device=logits.device)[:, None])[:, 0].tolist()
    values, places = logs.topk(min(count, logs.shape[-1]), dim=-1)
    likeliest = [tuple(zip(*row, strict=True)) for row in zip(places.tolist(), values.tolist(), strict=True)]
    return list(zip(own, likeliest, strict=True))
