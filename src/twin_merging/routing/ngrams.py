"""Hashed n-grams of raw text, counted sparsely.

The n-grams of a text are its words, every two words in a row, and every 2, 3 and 4 characters in a row, just as they
are written: casing, spacing and marks count. Words are what white space parts. An n-gram is hashed by CRC-32 (as in
ISO 3309 and zlib) of its UTF-8 bytes, with the number of its text (0, or 1 for the second of a pair) and its kind
before it. The hash is the same on every machine and in every Python, and falls into one of `BUCKETS` buckets.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple
from zlib import crc32

import torch

BUCKETS = 2**16
CHARACTERS = (2, 3, 4)  # how many characters in a row
WORD, TWO_WORDS, INSIDE = "w", "v", "c"  # the kind of an n-gram, which is hashed with it

Texts = Sequence[str | Sequence[str]]  # of each row a text, or the two texts of a pair


class Counts(NamedTuple):
    """N-grams of rows. buckets (n,), int64: which occur; weights (n,), fp32; starts (rows,), int64: where each row's
    begin. A row's weights are 1 + log(count) over their Euclidean norm."""

    buckets: torch.Tensor
    weights: torch.Tensor
    starts: torch.Tensor

    def rows(self, numbers: torch.Tensor) -> Counts:
        """Some of the rows, in this order."""
        stops = torch.cat([self.starts[1:], torch.tensor([len(self.buckets)])])
        lengths = (stops - self.starts)[numbers]
        starts = lengths.cumsum(0) - lengths
        places = torch.arange(int(lengths.sum())) + (self.starts[numbers] - starts).repeat_interleave(lengths)
        return Counts(self.buckets[places], self.weights[places], starts)


def ngrams_of(text: str) -> Iterator[str]:
    """The n-grams of a text, each with its kind before it, as often as they occur."""
    words = text.split()
    for word in words:
        yield WORD + word
    for first, second in pairwise(words):
        yield f"{TWO_WORDS}{first} {second}"
    for size in CHARACTERS:
        for start in range(len(text) - size + 1):
            yield INSIDE + text[start : start + size]


def bucket_of(ngram: str, number: int = 0) -> int:
    """The bucket of an n-gram of a row's text `number`. Half of a surrogate pair, which is no character, has bytes
    too."""
    return crc32(f"{number}{ngram}".encode("utf-8", "surrogatepass")) % BUCKETS


def counts_of(texts: Texts) -> Counts:
    """The n-grams of rows of texts."""
    buckets: list[int] = []
    weights: list[float] = []
    starts: list[int] = []
    for row in texts:
        starts.append(len(buckets))
        found: dict[int, int] = {}
        for number, text in enumerate((row,) if isinstance(row, str) else row):
            for ngram in ngrams_of(text):
                bucket = bucket_of(ngram, number)
                found[bucket] = found.get(bucket, 0) + 1
        values = [1 + math.log(count) for count in found.values()]
        norm = math.sqrt(sum(value * value for value in values))
        buckets += found
        weights += [value / norm for value in values]
    return Counts(torch.tensor(buckets, dtype=torch.int64), torch.tensor(weights), torch.tensor(starts))
