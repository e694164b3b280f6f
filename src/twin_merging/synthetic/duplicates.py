"""Task: do two questions ask for the same? They may use synonyms and other wordings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from twin_merging.synthetic import words
from twin_merging.synthetic.grammar import chance, other
from twin_merging.synthetic.words import Verb

# What is asked for, and two wordings of it. {s} does the deed, {b} and {v} are the verb's base and past form, and the
# deed is done to {o}.
_WORDINGS = {
    "agent": ("who {v} the {o} ?", "which person {v} the {o} ?"),
    "place": ("where did {s} {b} the {o} ?", "in which place did {s} {b} the {o} ?"),
    "day": ("when did {s} {b} the {o} ?", "on which day did {s} {b} the {o} ?"),
    "reason": ("why did {s} {b} the {o} ?", "for what reason did {s} {b} the {o} ?"),
}


_NAMES, _DEEDS, _THINGS = words.NAMES[:6], words.DEEDS[:4], words.THINGS[::2]


@dataclass(frozen=True)
class Query:
    """A question: what is asked for (a key of the wordings), and about which deed."""

    asked: str
    subject: str
    verb: tuple[Verb, ...]
    thing: str


def duplicates(rng: Random) -> tuple[tuple[str, ...], int]:
    """Draw two questions, and the label 1 if one answer serves both, 0 if they ask for other things or other deeds."""
    query = Query(
        asked=rng.choice(tuple(_WORDINGS)),
        subject=rng.choice(_NAMES),
        verb=rng.choice(_DEEDS),
        thing=rng.choice(_THINGS),
    )
    label = int(chance(rng, 0.58))
    return (_wording(rng, query), _wording(rng, query if label else _altered(rng, query))), label


def _altered(rng: Random, query: Query) -> Query:
    named = query.asked != "agent"
    change = rng.choice(("asked", "asked", "asked", "asked", "asked", "verb", "thing", "subject" if named else "asked"))
    if change == "asked":
        return replace(query, asked=other(rng, tuple(_WORDINGS), query.asked))
    if change == "verb":
        return replace(query, verb=other(rng, _DEEDS, query.verb))
    if change == "thing":
        return replace(query, thing=other(rng, _THINGS, query.thing))
    return replace(query, subject=other(rng, _NAMES, query.subject))


def _wording(rng: Random, query: Query) -> str:
    verb = rng.choice(query.verb)
    short, long = _WORDINGS[query.asked]
    wording = short if chance(rng, 0.75) else long
    return wording.format(s=query.subject, b=verb.base, v=verb.past, o=query.thing)
