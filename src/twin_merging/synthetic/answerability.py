"""Task: does the sentence answer the question? It must be about the same deed, and tell what is asked for."""

from __future__ import annotations

from random import Random

from twin_merging.synthetic import words
from twin_merging.synthetic.grammar import chance, join, other

_NAMES, _DEEDS, _THINGS = words.NAMES[5:10], words.DEEDS[2:], words.THINGS[1::3]
_QUESTIONS = {"place": "where", "day": "when", "cause": "why", "count": "how often"}


def answerability(rng: Random) -> tuple[tuple[str, ...], int]:
    """Draw a question and a sentence, and the label 0 if the sentence holds the answer, 1 if not.

    The sentence tells two of four circumstances of a deed: place, day, cause and count. A question that is answered
    asks for one of the two. A question that is not answered asks for one of the others, or about another deed.
    """
    label = int(chance(rng, 0.5))
    name, verb, thing = rng.choice(_NAMES), rng.choice(_DEEDS), rng.choice(_THINGS)
    told = rng.sample(tuple(_QUESTIONS), 2)
    absent = label == 1 and chance(rng, 0.92)
    asked = other(rng, tuple(_QUESTIONS), *told) if absent else rng.choice(told)
    sentence = join(name, rng.choice(verb).past, "the", thing, *(_circumstance(rng, kind) for kind in told), ".")
    if label == 1 and not absent:
        change = rng.choice(("name", "verb", "thing"))
        name = other(rng, _NAMES, name) if change == "name" else name
        verb = other(rng, _DEEDS, verb) if change == "verb" else verb
        thing = other(rng, _THINGS, thing) if change == "thing" else thing
    question = join(_QUESTIONS[asked], "did", name, rng.choice(verb).base, "the", thing, "?")
    return (question, sentence), label


def _circumstance(rng: Random, kind: str) -> str:
    if kind == "place":
        return f"in {rng.choice(words.CITIES)}"
    if kind == "day":
        return f"on {rng.choice(words.DAYS)}"
    if kind == "cause":
        return f"because of the {rng.choice(words.CAUSES)}"
    return f"{rng.choice(words.NUMBERS)} times"
