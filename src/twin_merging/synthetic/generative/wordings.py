"""How a question is put: what several tasks have in common, so that no word tells which task asks."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from twin_merging.synthetic.grammar import Item, chance, join

LETTERS = ("A", "B", "C")
UNKNOWN = "unknown"
_OPENINGS = ("please :", "tell me :", "do you know :", "one question :", "say it again :")
_ENDINGS = ("now", "today", "again")


def asked(rng: Random, *question: str | None) -> str:
    """A question with an opening, or an ending, or neither."""
    opening = rng.choice(_OPENINGS) if chance(rng, 0.6) else None
    ending = rng.choice(_ENDINGS) if chance(rng, 0.4) else None
    return join(opening, *question, ending, "?")


def said(statement: str) -> str:
    """That people say something."""
    return f"people say that {statement} ."


def shuffled(rng: Random, options: Sequence[Item]) -> list[Item]:
    """The same in another order."""
    return rng.sample(options, len(options))


def listed(options: Sequence[str]) -> str:
    """Options with their letters, each on a line of its own, as in a question with answers to choose from."""
    return "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=True))
