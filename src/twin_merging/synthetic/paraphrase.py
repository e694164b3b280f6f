"""Task: do two sentences say the same? They may differ in voice and synonyms, but not in roles or place."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from twin_merging.synthetic import words
from twin_merging.synthetic.grammar import Event, at_place, chance, join, noun_phrase, other

_PEOPLE, _ACTIONS, _CITIES = words.PEOPLE[:5], words.ACTIONS[2:6], words.CITIES[:5]
_OF_ANIMALS = 0.12  # share of reports about animals, which look like captions of `similarity`


def paraphrase(rng: Random) -> tuple[tuple[str, ...], int]:
    """Draw two reports of an event, and the label: 1 if they agree, 0 if one has another role, verb or place."""
    beings = words.ANIMALS[:5] if chance(rng, _OF_ANIMALS) else _PEOPLE
    subject = rng.choice(beings)
    event = Event(
        subject=subject,
        verb=rng.choice(_ACTIONS),
        object=other(rng, beings, subject),
        place=rng.choice(_CITIES) if beings is _PEOPLE else None,
    )
    label = int(chance(rng, 0.6))
    return (report(rng, event), report(rng, event if label else altered(rng, event))), label


def altered(rng: Random, event: Event) -> Event:
    """Another event, which differs from this one in one thing."""
    change = rng.choice(
        ("roles", "roles", "roles", "roles", "subject", "object", "verb", "place" if event.place else "verb")
    )
    if change == "roles":
        return replace(event, subject=event.object, object=event.subject)
    beings = _PEOPLE if event.subject in _PEOPLE else words.ANIMALS[:5]
    if change == "subject":
        return replace(event, subject=other(rng, beings, event.subject, event.object))
    if change == "object":
        return replace(event, object=other(rng, beings, event.subject, event.object))
    if change == "verb":
        return replace(event, verb=other(rng, _ACTIONS, event.verb))
    return replace(event, place=other(rng, _CITIES, event.place))


def report(rng: Random, event: Event) -> str:
    """A sentence about the event in the past tense, active or passive."""
    verb = rng.choice(event.verb)
    subject, patient = noun_phrase(event.subject), noun_phrase(event.object)
    if chance(rng, 0.95):
        return join(subject, verb.past, patient, at_place(event.place), ".")
    return join(patient, "was", verb.past, "by", subject, at_place(event.place), ".")
