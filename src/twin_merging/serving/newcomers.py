"""Which new prompts are read between two tokens of the other rows, and which of them in one pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from twin_merging.serving.rows import Row


@dataclass(frozen=True)
class Prefill:
    """tokens: of new prompts that are read between two tokens of the other rows, as many as keep the device busy: more
    would let the other rows wait, and gain nothing. padded: how many times its prompts' tokens a pass may have with
    their padding. A processor reads short prompts almost as quickly alone, and padding costs it as much as tokens."""

    tokens: int
    padded: float

    @classmethod
    def on(cls, device: str) -> Prefill:
        return cls(512, 1.25) if device == "cpu" else cls(8192, math.inf)

    def takes(self, rows: Sequence[Row[Any]]) -> bool:
        """Whether the prompts of these rows are read before the other rows go on; one always is."""
        lengths = _lengths(rows)
        return len(lengths) == 1 or sum(lengths) <= self.tokens

    def passes(self, rows: Sequence[Row[Any]]) -> list[list[Row[Any]]]:
        """The rows whose prompts are read together: those of about one length. Each pass has the next shorter ones."""
        found: list[list[Row[Any]]] = []
        for row in sorted(rows, key=lambda row: len(row.ask.prompt), reverse=True):
            if found and self._fit([*found[-1], row]):
                found[-1].append(row)
            else:
                found.append([row])
        return found

    def _fit(self, rows: Sequence[Row[Any]]) -> bool:
        lengths = _lengths(rows)
        size = max(lengths) * len(lengths)
        return len(lengths) == 1 or size <= min(self.tokens, self.padded * sum(lengths))


def _lengths(rows: Sequence[Row[Any]]) -> list[int]:
    """Those of the prompts. Of several answers to one, it is read once."""
    return list({id(row.ask): len(row.ask.prompt) for row in rows}.values())
