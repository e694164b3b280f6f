"""Is the sentence grammatical? Right and wrong sentences hold the same words, arranged otherwise."""

from __future__ import annotations

from random import Random

from twin_merging.generation import words
from twin_merging.generation.grammar import chance, join

_ADJECTIVES = tuple(group[0] for group in words.QUALITIES) + words.COLORS


def acceptability(rng: Random) -> tuple[tuple[str, ...], int]:
    """A sentence and 1 if it is well formed, 0 if it breaks one rule.

    The rules: the verb agrees with its subject, whatever noun stands between them; the adjective precedes its
    noun; a transitive verb has an object and an intransitive one has none; a preposition precedes its noun.
    """
    good = chance(rng, 0.5)
    fault = None if good else rng.choice(("agreement", "agreement", "order"))
    many, many_between = chance(rng, 0.5), chance(rng, 0.5)
    noun = rng.choice(words.BEINGS)
    modifier = rng.choice(words.BEINGS) if chance(rng, 0.25) else None
    transitive = chance(rng, 0.5)
    verb = rng.choice(rng.choice(words.ACTIONS if transitive else words.MOTIONS))
    form = verb.base if many != (fault == "agreement") else verb.third
    subject = _ordered(rng, words.plural(noun) if many else noun, wrong=fault == "order")
    between = None
    if modifier is not None:
        preposition = rng.choice(("near", "behind", "beside"))
        modifier = f"the {words.plural(modifier) if many_between else modifier}"
        between = f"{modifier} {preposition}" if fault == "preposition" else f"{preposition} {modifier}"
    with_object = transitive != (fault == "argument")
    patient = rng.choice(words.BEINGS)
    object_ = _ordered(rng, words.plural(patient) if chance(rng, 0.5) else patient) if with_object else None
    ending = rng.choice((None, "today", "again", "every day"))
    return (join(subject, between, form, object_, ending, "."),), int(good)


def _ordered(rng: Random, noun: str, *, wrong: bool = False) -> str:
    """A definite noun phrase, with an adjective behind its noun if wrong, else perhaps one before it."""
    adjective = rng.choice(_ADJECTIVES) if wrong or chance(rng, 0.4) else None
    return join("the", noun, adjective) if wrong else join("the", adjective, noun)
