"""Passages: two persons at a place, and what each of them did."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from twin_merging.synthetic import words
from twin_merging.synthetic.grammar import chance, join
from twin_merging.synthetic.words import Verb

_VERBS = tuple(group[0] for group in words.DEEDS)
SOMEBODY = "one of them"


@dataclass(frozen=True)
class Deed:
    """Who did what to which thing."""

    who: str
    verb: Verb
    thing: str

    def told(self) -> str:
        """In as few words as it takes, without a full stop."""
        return f"{self.who} {self.verb.past} the {self.thing}"


@dataclass(frozen=True)
class Scene:
    """Where two persons were, and a deed of each."""

    place: str
    deeds: tuple[Deed, Deed]

    @property
    def persons(self) -> tuple[str, str]:
        one, two = (deed.who for deed in self.deeds)
        return one, two


def scene(rng: Random) -> Scene:
    """Draw a scene with two persons, two verbs and two things."""
    persons, verbs, things = rng.sample(words.NAMES, 2), rng.sample(_VERBS, 2), rng.sample(words.THINGS, 2)
    one, two = (Deed(*parts) for parts in zip(persons, verbs, things, strict=True))
    return Scene(rng.choice(words.PLACES), (one, two))


def meeting(rng: Random, one: Scene) -> str:
    """The sentence that says who was there, and where."""
    first, second = rng.sample(one.persons, 2)
    return join(first, "and", second, "were in the", one.place, ".")


def detailed(rng: Random, deed: Deed, who: str | None) -> str:
    """A sentence about a deed with details: what the thing was like, and when or why it was done. who: None leaves
    open which of the two it was."""
    adjective = rng.choice(words.COLORS) if chance(rng, 0.6) else None
    circumstance = rng.choice((f"on {rng.choice(words.DAYS)}", f"because of the {rng.choice(words.CAUSES)}", None))
    return join(who or SOMEBODY, deed.verb.past, "the", adjective, deed.thing, circumstance, ".")


def asking(rng: Random, deed: Deed) -> str:
    """A question for who did it, without its mark."""
    done = f"{deed.verb.past} the {deed.thing}"
    return rng.choice((f"who {done}", f"who is it that {done}", f"which of them {done}"))
