"""How likely a language model holds each of some texts behind a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twin_merging.tasks.reading import Holding, Reading, all_rows, padded


def option_likelihoods(
    model: Any, batch: Any, options: Sequence[Sequence[Sequence[int]]], holding: Holding = all_rows
) -> list[list[float]]:
    """The log-probability of each option of each row behind its prompt: the sum of its tokens'.

    options: of each row its options, each as token ids. Prompts are read once; where all options are one token, that
    is all that is read. Other arguments as for `write` (twin_merging.tasks.writing).
    """
    import torch

    reading = Reading(model)
    with torch.no_grad(), holding(range(len(options))):
        first = reading.read(batch["input_ids"], batch["attention_mask"])[:, -1].log_softmax(-1)
        found = [[float(first[row, option[0]]) for option in own] for row, own in enumerate(options)]
        for number in range(max(map(len, options), default=0)):
            numbered = [own[number] if number < len(own) else () for own in options]
            if all(len(option) < 2 for option in numbered):
                continue
            for row, more in enumerate(_behind_first(reading.copied(), numbered, first.device)):
                if number < len(found[row]):
                    found[row][number] += more
    return found


def _behind_first(reading: Reading, options: Sequence[Sequence[int]], device: Any) -> list[float]:
    """The log-probability of what follows the first token of an option a row; 0 for nothing."""
    ids, mask = padded(options, device)
    logits = reading.read(ids[:, :-1], mask[:, :-1], places=ids.shape[1] - 1)
    each = logits.log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    return [sum(row[: max(len(option) - 1, 0)]) for row, option in zip(each.tolist(), options, strict=True)]
