"""What a router does to what it reads before it weighs it, where it reads more than plain hidden states.

It joins logits of n-grams to the features of hidden states, and scales each number to mean 0 and variance 1. So every
kind of router can read every kind of features. Its tensors lie in the router's file, under names with `PREFIX`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from twin_merging.errors import UserError
from twin_merging.routing.layers import Features, read_beside, reads_segments, reads_text
from twin_merging.routing.ngrams import BUCKETS, Counts, Texts, counts_of
from twin_merging.routing.segments import MARKS
from twin_merging.routing.tensors import shape_in

PREFIX = "reading."


class Reading(nn.Module):
    """centre, scale (d,): of each number that the router weighs. marks (n,): ids of tokens that belong to no text, for
    features that keep texts apart. ngrams (BUCKETS, T) and bias (T,): the linear layer over n-grams."""

    centre: torch.Tensor
    scale: torch.Tensor
    marks: torch.Tensor | None
    ngrams: torch.Tensor | None
    bias: torch.Tensor | None

    def __init__(self, tensors: Mapping[str, torch.Tensor]):
        super().__init__()
        for name in ("centre", "scale", MARKS, "ngrams", "bias"):
            self.register_buffer(name, tensors.get(name))

    @classmethod
    def of_state(cls, state: Mapping[str, torch.Tensor], features: Features, tasks: int) -> Reading | None:
        """The reading of a router's file; None where its features are plain hidden states. Raises UserError, naming the
        tensor, for one that is missing or does not fit the tasks."""
        if not read_beside(features):
            return None
        shapes = {"ngrams": (BUCKETS, tasks), "bias": (tasks,)} if reads_text(features) else {}
        names = ("centre", "scale", *([MARKS] if reads_segments(features) else []), *shapes)
        found = {}
        for name in names:
            shape = shape_in(state, PREFIX + name)
            if shapes.get(name, shape) != shape:
                raise UserError(
                    f"the router: tensor '{PREFIX}{name}' has shape {shape}, but {tasks} tasks need {shapes[name]}; "
                    "make the router again"
                )
            found[name] = state[PREFIX + name]
        return cls(found)

    @property
    def reads_text(self) -> bool:
        return self.ngrams is not None

    def forward(self, hidden: torch.Tensor, texts: Texts | None = None) -> torch.Tensor:
        """What the router weighs (batch, d), of features of hidden states (batch, d'), and the rows' raw texts.

        Raises ValueError for texts that are missing, or are not one a row.
        """
        joined = hidden.float()
        if self.ngrams is not None:
            if texts is None:
                raise ValueError("the router of this model reads raw text: give texts, a text or a pair of texts a row")
            if isinstance(texts, str) or len(texts) != len(hidden):
                raise ValueError(f"{len(texts)} texts for {len(hidden)} rows; give one a row")
            joined = torch.cat([joined, self.logits(counts_of(texts))], dim=-1)
        return (joined - self.centre) / self.scale

    def logits(self, counts: Counts) -> torch.Tensor:
        """What n-grams alone say of each task (rows, T)."""
        if self.ngrams is None or self.bias is None:
            raise RuntimeError("this router reads no text")
        return ngram_logits(self.ngrams, self.bias, Counts(*(one.to(self.ngrams.device) for one in counts)))


def ngram_logits(weight: torch.Tensor, bias: torch.Tensor, counts: Counts) -> torch.Tensor:
    """The linear layer (buckets, T) over counted n-grams: (rows, T). A row without n-grams has the bias alone."""
    sums = nn.functional.embedding_bag(
        counts.buckets, weight, counts.starts, mode="sum", per_sample_weights=counts.weights
    )
    return sums + bias
