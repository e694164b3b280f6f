"""Where the answer of a language model ends."""

from __future__ import annotations

from pydantic import Field

from twin_merging.io.fields import FilledText, Positive
from twin_merging.io.validation import Model


class Ending(Model):
    """When a model stops to write."""

    max_new_tokens: Positive = Field(16, description="tokens of the longest answer")
    stop: tuple[FilledText, ...] = Field((), description="texts that end an answer")

    def cut(self, text: str) -> str:
        """What stands before the first text that ends an answer, without spaces around it."""
        ends = [place for stop in self.stop if (place := text.find(stop)) >= 0]
        return text[: min(ends, default=len(text))].strip()
