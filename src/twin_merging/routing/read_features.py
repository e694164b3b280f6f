"""Features of rows as a router weighs them, from a file of features: joined with logits of n-grams, and scaled.

The linear layer over n-grams knows its own training rows too well. So what it says of a train row comes from a layer
that was trained without that row (cross-fitting: the rows of each task are dealt to `FOLDS` parts in turn). Held-out
rows, and the inputs of a finished model, get what a layer says that was trained on all train rows.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from twin_merging.io.tensors import Checkpoint
from twin_merging.routing.layers import Features, read_beside, reads_segments, reads_text
from twin_merging.routing.ngrams import BUCKETS, Counts, counts_of
from twin_merging.routing.raw_texts import stored_as, unpacked
from twin_merging.routing.reading import PREFIX, ngram_logits
from twin_merging.routing.segments import MARKS

log = logging.getLogger(__name__)

Labelled = tuple[torch.Tensor, torch.Tensor]  # features (n, d), and the index (n,) of each one's task

FOLDS = 4
EPOCHS, BATCH_SIZE, LEARNING_RATE = 5, 128, 1.0  # of the linear layer, by Adagrad


def labelled(features: Path, tasks: Sequence[str], split: str) -> Labelled:
    """The features (n, d) of all tasks, and the index (n,) of each row's task."""
    stored = Checkpoint(features)
    parts = [stored[f"{task}/{split}"] for task in tasks]
    labels = [torch.full((len(part),), index) for index, part in enumerate(parts)]
    return torch.cat(parts), torch.cat(labels)


def is_read(features: Features) -> bool:
    """Whether a router reads more than plain hidden states, and so has a `Reading`."""
    return bool(read_beside(features))


def joined(
    file: Path, tasks: Sequence[str], features: Features, train: Labelled, held_out: Labelled
) -> tuple[Labelled, Labelled, dict[str, torch.Tensor], dict[str, Any]]:
    """Train and held-out features as a router weighs them, the tensors of the `Reading` that does the same to inputs,
    and what metrics.json says of it.

    file: the file of features; train, held_out: the hidden states in it.
    """
    stored = Checkpoint(file)
    parts, found, details = (train[0].float(), held_out[0].float()), {}, {}
    if reads_segments(features):
        found[MARKS] = stored[MARKS]
    if reads_text(features):
        rows, others = (_counts(stored, tasks, split) for split in ("train", "validation"))
        own, layer = cross_fitted(rows, train[1], len(tasks))
        said = ngram_logits(*layer, others)
        parts = (torch.cat([parts[0], own], dim=1), torch.cat([parts[1], said], dim=1))
        found["ngrams"], found["bias"] = layer
        details["ngrams_accuracy"] = _accuracy(said, held_out[1])
        log.info("n-grams alone: held-out accuracy %.4f", details["ngrams_accuracy"])
    centre = parts[0].double().mean(0)
    scale = parts[0].double().std(0, correction=0)
    found["centre"], found["scale"] = centre.float(), torch.where(scale > 0, scale, 1.0).float()
    x, held_x = ((part - found["centre"]) / found["scale"] for part in parts)
    state = {f"{PREFIX}{name}": tensor for name, tensor in found.items()}
    return (x, train[1]), (held_x, held_out[1]), state, details


def cross_fitted(rows: Counts, y: torch.Tensor, tasks: int) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """What n-grams say of each row by a layer that was trained without it (rows, T); and the layer of all rows."""
    fold = torch.empty_like(y)
    for task in range(tasks):
        own = (y == task).nonzero()[:, 0]
        fold[own] = torch.arange(len(own)) % FOLDS
    said = torch.zeros(len(y), tasks)
    for number in range(FOLDS):
        inside, outside = (fold != number).nonzero()[:, 0], (fold == number).nonzero()[:, 0]
        said[outside] = ngram_logits(*trained(rows, y, inside, tasks), rows.rows(outside))
    return said, trained(rows, y, torch.arange(len(y)), tasks)


def trained(rows: Counts, y: torch.Tensor, numbers: torch.Tensor, tasks: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The linear layer over n-grams, weight (BUCKETS, T) and bias (T,), trained from 0 on the rows `numbers` by the
    cross-entropy. The order of rows is drawn anew for each pass, always by the same seed."""
    weight = torch.zeros(BUCKETS, tasks, requires_grad=True)
    bias = torch.zeros(tasks, requires_grad=True)
    optimiser = torch.optim.Adagrad([weight, bias], lr=LEARNING_RATE, initial_accumulator_value=1e-4)
    generator = torch.Generator().manual_seed(0)
    for _ in range(EPOCHS):
        for batch in numbers[torch.randperm(len(numbers), generator=generator)].split(BATCH_SIZE):
            optimiser.zero_grad()
            nn.functional.cross_entropy(ngram_logits(weight, bias, rows.rows(batch)), y[batch]).backward()
            optimiser.step()
    return weight.detach(), bias.detach()


def _counts(stored: Checkpoint, tasks: Sequence[str], split: str) -> Counts:
    return counts_of([texts for task in tasks for texts in unpacked(stored[stored_as(task, split)])])


def _accuracy(logits: torch.Tensor, y: torch.Tensor) -> float:
    """The mean over tasks of the share of rows whose task is found."""
    right = (logits.argmax(-1) == y).double()
    return float(torch.stack([right[y == task].mean() for task in y.unique().tolist()]).mean())
