"""Phrases that several tasks use, and small random choices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from twin_merging.synthetic import words
from twin_merging.synthetic.words import Verb

Item = TypeVar("Item")


@dataclass(frozen=True)
class Event:
    """Who did what to whom, and where (None: not told)."""

    subject: str
    verb: tuple[Verb, ...]
    object: str
    place: str | None = None


def chance(rng: Random, probability: float) -> bool:
    """True with this probability."""
    return rng.random() < probability


def other(rng: Random, items: Sequence[Item], *than: Item) -> Item:
    """One of the items, chosen at random, but none of `than`."""
    return rng.choice([item for item in items if item not in than])


def join(*parts: str | None) -> str:
    """The non-empty parts with single spaces between them."""
    return " ".join(part for part in parts if part)


def noun_phrase(noun: str, determiner: str = "the", adjective: str | None = None) -> str:
    """Determiner, adjective and noun. "a" becomes "an" before a vowel. A name stands alone."""
    if noun in words.NAMES or noun in words.CITIES:
        return noun
    phrase = join(adjective, noun)
    return f"{'an' if determiner == 'a' and phrase[0] in 'aeiou' else determiner} {phrase}"


def at_place(place: str | None) -> str | None:
    """ "in" a city, or "near the" other place."""
    if place is None:
        return None
    return f"in {place}" if place in words.CITIES else f"near the {place}"
