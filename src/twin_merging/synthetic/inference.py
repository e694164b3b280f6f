"""Task: does a premise with some, all or no prove the hypothesis, leave it open, or refute it?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from twin_merging.synthetic import words
from twin_merging.synthetic.grammar import chance, join, other
from twin_merging.synthetic.words import Verb

ENTAILMENT, NEUTRAL, CONTRADICTION = range(3)
_MOTIONS = words.MOTIONS[:4]
_QUANTIFIERS = ("some", "all", "no")
_ADJECTIVES = tuple(group[0] for group in words.QUALITIES) + words.COLORS


@dataclass(frozen=True)
class Statement:
    """A sentence such as "some clever people fell near the harbor"; adjective and place may be missing."""

    quantifier: str
    adjective: str | None
    noun: str
    verb: Verb
    place: str | None

    def text(self) -> str:
        where = None if self.place is None else f"near the {self.place}"
        return join(self.quantifier, self.adjective, words.plural(self.noun), self.verb.past, where, ".")


def inference(rng: Random) -> tuple[tuple[str, ...], int]:
    """Draw a premise and a hypothesis, and the label: 0 entailment, 1 neutral, 2 contradiction.

    The hypothesis may have another quantifier. It also differs in one other thing: it has a modifier more or less, a
    synonym, or another verb.
    """
    wanted = rng.randrange(3)
    while True:
        premise, hypothesis, restrictor, scope = _pair(rng)
        if relation(premise.quantifier, hypothesis.quantifier, restrictor, scope) == wanted:
            return (premise.text(), hypothesis.text()), wanted


def relation(premise: str, hypothesis: str, restrictor: int, scope: int) -> int:
    """The label of a pair, from its two quantifiers and from how the phrases differ.

    `restrictor` is about the noun phrase and `scope` about the verb phrase. They say how the hypothesis' phrase
    compares with the premise's: 1 if it is wider, -1 if narrower, 0 if the same, 2 if unrelated. It is assumed that
    there are such people or animals at all.
    """
    if 2 in (restrictor, scope):
        return NEUTRAL
    wider, narrower = restrictor >= 0 and scope >= 0, restrictor <= 0 and scope <= 0
    if premise == "no":
        refuted = (hypothesis == "some" and narrower) or (hypothesis == "all" and scope <= 0)
        return ENTAILMENT if hypothesis == "no" and narrower else CONTRADICTION if refuted else NEUTRAL
    if premise == "some":
        if not wider:
            return NEUTRAL
        return {"some": ENTAILMENT, "all": NEUTRAL, "no": CONTRADICTION}[hypothesis]
    if scope < 0:
        return NEUTRAL
    if hypothesis == "all":
        return ENTAILMENT if restrictor <= 0 else NEUTRAL
    return ENTAILMENT if hypothesis == "some" else CONTRADICTION


def _pair(rng: Random) -> tuple[Statement, Statement, int, int]:
    family = rng.choice(("person", "animal"))
    premise = Statement(
        quantifier=rng.choice(_QUANTIFIERS),
        adjective=rng.choice(_ADJECTIVES) if chance(rng, 0.5) else None,
        noun=family if chance(rng, 0.2) else rng.choice(words.HYPERNYMS[family]),
        verb=rng.choice(rng.choice(_MOTIONS)),
        place=rng.choice(words.PLACES) if chance(rng, 0.5) else None,
    )
    hypothesis = replace(premise, quantifier=rng.choice(_QUANTIFIERS))
    change = rng.choice(("adjective", "place", "synonym", "verb"))
    if change == "adjective":
        adjective = None if premise.adjective else rng.choice(_ADJECTIVES)
        return premise, replace(hypothesis, adjective=adjective), 1 if premise.adjective else -1, 0
    if change == "place":
        place = None if premise.place else rng.choice(words.PLACES)
        return premise, replace(hypothesis, place=place), 0, 1 if premise.place else -1
    group = next(group for group in _MOTIONS if premise.verb in group)
    if change == "synonym":
        return premise, replace(hypothesis, verb=other(rng, group, premise.verb)), 0, 0
    return premise, replace(hypothesis, verb=rng.choice(other(rng, _MOTIONS, group))), 0, 2
