"""Passages: two persons at a place, and what each of them did."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from twin_merging.synthetic import words
from twin_merging.synthetic.grammar import chance, join, other
from twin_merging.synthetic.words import Verb

_DEEDS = tuple(group[0] for group in words.DEEDS)
_ADJECTIVES = words.COLORS


@dataclass(frozen=True)
class Deed:
    """Who did what to which thing."""

    who: str
    verb: Verb
    thing: str

    def told(self) -> str:
        """In as few words as it takes, without a full stop."""
        return f"{self.who} {self.verb.past} the {self.thing}"

    def done(self) -> str:
        """The same, but for who it was."""
        return f"{self.verb.past} the {self.thing}"


@dataclass(frozen=True)
class Scene:
    """Two persons, where they were, and two deeds, each by one of them."""

    place: str
    deeds: tuple[Deed, Deed]

    @property
    def persons(self) -> tuple[str, str]:
        one, two = (deed.who for deed in self.deeds)
        return one, two


def scene(rng: Random) -> Scene:
    """Draw a scene with two persons, two verbs and two things."""
    persons, verbs, things = (rng.sample(kind, 2) for kind in (words.NAMES, _DEEDS, words.THINGS))
    one, two = (Deed(*parts) for parts in zip(persons, verbs, things, strict=True))
    return Scene(rng.choice(words.PLACES), (one, two))


def meeting(rng: Random, one: Scene) -> str:
    """The sentence that says who was there, and where."""
    first, second = rng.sample(one.persons, 2)
    return join(first, "and", second, "were in the", one.place, ".")


def another(rng: Random, one: Scene) -> tuple[Verb, str]:
    """A deed that nobody did: one thing of the scene with the other's verb, or with a verb of none."""
    verbs = tuple(deed.verb for deed in one.deeds)
    index = rng.randrange(2)
    return other(rng, _DEEDS, *verbs) if chance(rng, 0.5) else verbs[1 - index], one.deeds[index].thing


def detailed(rng: Random, deed: Deed, who: str | None = None) -> str:
    """A sentence about a deed with details: what the thing was like, and when or why it was done."""
    adjective = rng.choice(_ADJECTIVES) if chance(rng, 0.6) else None
    circumstance = rng.choice((f"on {rng.choice(words.DAYS)}", f"because of the {rng.choice(words.CAUSES)}", None))
    return join(who or deed.who, deed.verb.past, "the", adjective, deed.thing, circumstance, ".")
