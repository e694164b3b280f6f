"""Task: is the sentence grammatical? Right and wrong sentences use the same words, in another order or form."""

from __future__ import annotations

from random import Random

from twin_merging.synthetic import words
from twin_merging.synthetic.grammar import chance, join

_ADJECTIVES, _BEINGS = words.COLORS, words.ANIMALS
_ACTIONS, _MOTIONS = words.ACTIONS[:3], words.MOTIONS[:3]


def acceptability(rng: Random) -> tuple[tuple[str, ...], int]:
    """Draw a sentence, and the label 1 if it is well formed, 0 if it breaks one of two rules.

    The rules: the verb agrees in number with its subject, even if another noun stands between them; and an adjective
    stands before its noun.
    """
    good = chance(rng, 0.5)
    fault = None if good else rng.choice(("agreement", "order"))
    many = chance(rng, 0.5)
    noun, patient = rng.choice(_BEINGS), rng.choice(_BEINGS)
    between = f"near the {_numbered(rng, rng.choice(_BEINGS))}" if chance(rng, 0.25) else None
    transitive = chance(rng, 0.5)
    verb = rng.choice(rng.choice(_ACTIONS if transitive else _MOTIONS))
    form = verb.base if many != (fault == "agreement") else verb.third
    subject = _ordered(rng, words.plural(noun) if many else noun, wrong=fault == "order")
    object_ = _ordered(rng, _numbered(rng, patient)) if transitive else None
    ending = rng.choice((None, "today", "again"))
    return (join(subject, between, form, object_, ending, "."),), int(good)


def _numbered(rng: Random, noun: str) -> str:
    """The noun in the singular or the plural."""
    return words.plural(noun) if chance(rng, 0.5) else noun


def _ordered(rng: Random, noun: str, *, wrong: bool = False) -> str:
    """A noun phrase with "the". If wrong, it has an adjective behind the noun; else it may have one before the noun."""
    adjective = rng.choice(_ADJECTIVES) if wrong or chance(rng, 0.4) else None
    return join("the", noun, adjective) if wrong else join("the", adjective, noun)
