"""The pass over new prompts, in pieces where what the model says of their tokens is asked for."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from twin_merging.serving.joining import JoinedReading
from twin_merging.serving.rows import Ask
from twin_merging.serving.sampling import Likely, likelihoods

LOGITS = 2**25  # numbers, fp32, of all logits that are in memory at one time: 128 MiB


def left_padded(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and their mask (rows, length), padded on the left."""
    longest = max(map(len, prompts))
    ids = [[*[0] * (longest - len(prompt)), *prompt] for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def read_prompts(
    reading: JoinedReading, ids: torch.Tensor, mask: torch.Tensor, asks: Sequence[Ask], vocabulary: int
) -> tuple[torch.Tensor, list[list[Likely]]]:
    """The logits (rows, vocabulary) behind prompts, and for those that ask for it what the model says of every token of
    theirs but the first."""
    found: list[list[Likely]] = [[] for _ in asks]
    scored = [row for row, ask in enumerate(asks) if ask.scores_prompt]
    if not scored:
        return reading.read(ids, mask)[:, -1], found
    width = max(1, LOGITS // (vocabulary * len(asks)))
    most = max(asks[row].scores or 0 for row in scored)
    last = None
    for start in range(0, ids.shape[1], width):
        piece = slice(start, start + width)
        logits = reading.read(ids[:, piece], mask[:, piece], places=min(width, ids.shape[1] - start))
        before = logits[:, :-1] if last is None else torch.cat([last[:, None], logits[:, :-1]], dim=1)
        first = start + 1 if last is None else start
        for row in scored:
            begin = int(mask[row].argmax()) + 1
            told = range(max(begin, first), start + logits.shape[1])
            if told:
                tokens = ids[row, told.start : told.stop].tolist()
                found[row] += likelihoods(before[row, told.start - first : told.stop - first], tokens, most)
        last = logits[:, -1]
    if last is None:
        raise ValueError("a prompt has no tokens")
    return last, found
